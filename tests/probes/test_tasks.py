from dataclasses import replace

import pytest
import torch
from probe_stand_in import CLASSES, StandIn, scene
from torch import nn
from torch.testing import assert_close

from renderpretrain.data import GroundTruth, OccupancyLabels, SyntheticRoom, SyntheticStreet, label_occupancy
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes import Budget, Plan, ProbeSamples, Task, depth, occupancy, semseg
from renderpretrain.probes.classes import confusion
from renderpretrain.probes.head import Head, fit_heads
from renderpretrain.probes.task import some
from renderpretrain.recipes import HasEncoders, HasImageFeatures, HasPointFeatures


def one_hot(classes, count=3):
    return nn.functional.one_hot(torch.tensor(classes), count).float()


def test_iou_by_hand():
    task = semseg(CLASSES)
    sums = confusion(one_hot([1, 1, 2, 0]), torch.tensor([1, 2, 2, 1]))
    assert sums.tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 1]]
    found = task.scores(sums)
    assert found == pytest.approx({"miou": (1 / 3 + 1 / 2) / 2, "iou/dark": 1 / 3, "iou/bright": 1 / 2})
    absent = task.scores(confusion(one_hot([1, 2]), torch.tensor([1, 1])))
    assert absent == pytest.approx({"miou": 1 / 2, "iou/dark": 1 / 2})  # nothing is bright: not a class
    assert occupancy().scores(sums[1:, 1:]) == {"iou": pytest.approx(1 / 2)}


def test_rare_classes_are_heard():
    """Nine dark places and one bright one: roots 3 and 1, so the bright one weighs as three dark ones."""
    outputs = torch.tensor([[0.0, 1.0, 0.0]] * 9 + [[0.0, 0.0, 2.0]])
    answers = torch.tensor([1] * 9 + [2])
    each = nn.functional.cross_entropy(outputs, answers, reduction="none")
    expected = (each[0] * 9 / 3 + each[9]) / (9 / 3 + 1)
    assert_close(semseg(CLASSES).loss(outputs, answers), expected)


def test_depth_scores_by_hand():
    task = depth()
    sums = task.sums(torch.tensor([[10.0], [4.0]]).log(), torch.tensor([8.0, 5.0]))
    sums = sums + task.sums(torch.tensor([[3.0]]).log(), torch.tensor([3.0]))
    expected = {"abs_rel": (0.25 + 0.2) / 3, "rmse": (5 / 3) ** 0.5}
    assert task.scores(sums) == pytest.approx(expected, rel=1e-5)  # float32 logarithms
    loss = task.loss(torch.tensor([[1.0], [2.0]]), torch.tensor([2.0, 1.0]).exp())
    assert float(loss) == pytest.approx(1.0)


def test_semseg_reads_labelled_points_of_the_key_sweep_in_the_grid():
    one = scene(0)
    points, labels = one.points.clone(), one.point_labels.clone()
    points[0, 0], points[1, 4], labels[2], labels[3] = 50.0, 0.1, 0, -1
    recipe = StandIn().eval()
    places = semseg(CLASSES).read(recipe, replace(one, points=points, point_labels=labels), 1000)
    assert_close(places.answers, labels[4:])
    whole = semseg(CLASSES).read(recipe, one, 1000)
    assert_close(places.features, whole.features[4:])
    assert len(semseg(CLASSES).read(recipe, one, 50).answers) == 50
    with pytest.raises(ValueError, match="'scene-0' has no point labels"):
        semseg(CLASSES).read(recipe, replace(one, point_labels=None), 50)


def test_occupancy_asks_the_simulator_then_the_window_then_the_beams():
    one, recipe = scene(0), StandIn().eval()
    read = occupancy().read
    beams = label_occupancy([one], 0, recipe.grid)
    places = read(recipe, one, 10**6)
    assert_close(places.answers, beams.occupied[beams.observed].long())
    observed = torch.zeros(10, 10, 10, dtype=torch.bool)
    observed[0, 0, :3] = True
    window = replace(one, occupancy=OccupancyLabels(observed.clone().fill_(True) & observed, observed))
    assert read(recipe, window, 10**6).answers.tolist() == [1, 1, 1]
    grid = VoxelGrid((-4.0, -4.0, -4.0, 4.0, 4.0, 4.0), (4.0, 4.0, 4.0))
    classes = torch.tensor([0, 2, 0, 0, 1, 0, 0, 0]).view(2, 2, 2)
    picture = torch.zeros(1, 1, 1)
    truth = GroundTruth(picture, picture > 0, torch.zeros(1, 3, 1, 1), picture.long(), classes, grid, CLASSES)
    exact = read(recipe, replace(window, truth=truth), 10**6)
    assert exact.answers.tolist() == [0, 1, 0, 0, 1, 0, 0, 0]


class Camera(nn.Module):
    """Every cell's feature is its own number."""

    def image_features(self, batch):
        count = 1 if batch.views is None else batch.views.images.shape[1]
        return torch.arange(count * 4 * 6).float().view(1, count, 1, 4, 6)


@pytest.mark.parametrize("data", [SyntheticStreet(1, image_size=(32, 48)), SyntheticRoom(1)])
def test_depth_is_that_of_the_nearest_return_in_a_cell(data):
    one = data[0]
    places = depth().read(Camera(), one, 10**6)
    cells = places.features[:, 0].long()
    height, width = one.cameras.image_size
    found = {}
    for n in range(one.cameras.shape[0]):
        pixels, z_depth, inside = one.cameras[n].project(one.points[:, :3])
        for (u, v), z in zip(pixels[inside].tolist(), z_depth[inside].tolist(), strict=True):
            cell = (n * 4 + int(v * 4 / height)) * 6 + int(u * 6 / width)
            found[cell] = min(found.get(cell, z), z)
    assert_close(places.answers, torch.tensor([found[int(cell)] for cell in cells]))
    assert len(cells) >= len(found) - 2  # a pixel on a border may round to either cell
    # Cells with a pixel of padding have no answer.
    padded = torch.ones(one.cameras.shape[0], height, width, dtype=torch.bool)
    padded[:, : height // 4 + 1] = False
    rows = depth().read(Camera(), replace(one, image_valid=padded), 10**6).features[:, 0].long() % 24 // 6
    assert set(rows.tolist()) == {2, 3}
    with pytest.raises(ValueError, match="no images"):
        depth().read(Camera(), replace(one, images=None, cameras=None, camera_names=()), 10)


def test_what_a_task_lacks_is_named():
    one = scene(0)
    with pytest.raises(ValueError, match=r"the task depth needs image_features, which StandIn does not have"):
        depth().read(StandIn(), one, 10)
    for task in (semseg(CLASSES), occupancy()):
        with pytest.raises(
            ValueError, match=rf"{task.name} needs grid, point_features, which Camera does not"
        ):
            task.read(Camera(), one, 10)


def test_a_stand_in_meets_what_probes_ask_for():
    assert isinstance(StandIn(), HasPointFeatures) and isinstance(StandIn(), HasEncoders)
    assert isinstance(Camera(), HasImageFeatures)


def test_a_room_knows_what_its_points_are():
    """The nearest surface voxel of the exact occupancy has the point's class for nearly every point."""
    room = SyntheticRoom(1, num_points=3000)[0]
    inside = room.truth.grid.contains(room.points[:, :3])
    cells = room.truth.grid.cells(room.points[inside, :3])
    near = room.truth.occupancy[tuple(cells.T)]
    known = near > 0
    assert known.float().mean() > 0.3
    assert (near == room.point_labels[inside])[known].float().mean() > 0.9
    assert set(room.point_labels.tolist()) <= set(range(1, len(room.truth.class_names)))


def test_a_head_reaches_the_optimum_of_its_convex_loss():
    """What tells the classes apart is a tenth of what the features share; the truth is Newton's."""
    generator = torch.Generator().manual_seed(0)
    shared = 10 * torch.randn(600, 1, generator=generator)
    own = torch.randn(600, 3, generator=generator)
    noise = 0.3 * torch.randn(600, generator=generator)
    places = ProbeSamples(shared + own, (own[:, 0] - own[:, 1] + noise > 0).long())
    task = occupancy()
    head = Head(places.features, 2, seed=0)
    (head,) = fit_heads(head, places, task, Budget(penalties=(1.0,))).values()

    scaled = (places.features.double() - head.mean.double()) / head.spread.double()

    def objective(parameters):
        weight, bias = parameters[:6].view(2, 3), parameters[6:]
        loss = task.loss(scaled @ weight.T + bias, places.answers)
        return loss + weight.square().sum() / (2 * 600)

    best = torch.zeros(8, dtype=torch.float64)
    for _ in range(30):
        hessian = torch.autograd.functional.hessian(objective, best)
        slope = torch.autograd.functional.jacobian(objective, best)
        best = best - torch.linalg.pinv(hessian) @ slope
    fitted = torch.cat([head.linear.weight.flatten(), head.linear.bias]).detach().double()
    start = objective(torch.zeros(8, dtype=torch.float64))
    assert objective(best) < start - 0.1  # there is something to learn
    # float32 features carry 1e-6 of what tells the classes apart
    assert float(objective(fitted)) == pytest.approx(float(objective(best)), rel=1e-5)


def test_a_constant_feature_says_nothing():
    features = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    head = Head(features, 1, seed=0)
    assert_close(head(features), head(features + torch.tensor([0.0, 7.0])))


def test_some_rows_are_the_same_for_everyone_and_in_order():
    rows = torch.arange(100, 200)
    chosen = some(rows, 7)
    assert_close(chosen, chosen.sort().values)
    assert len(set(chosen.tolist())) == 7
    assert_close(some(rows + 5, 7), chosen + 5)
    assert_close(some(rows, 100), rows)


def rows_of_detections():
    """A task that asks for something else than places: of a scene, its number of points, from one map."""

    def read(recipe, scene, limit):
        return ProbeSamples(torch.ones(1, 2, 4, 4), torch.tensor([float(len(scene.points))]))

    return Task(
        "count", "error", True, 1, read,
        loss=lambda outputs, answers: (outputs.mean() - answers).abs().mean(),
        sums=lambda outputs, answers: torch.stack([outputs.mean().detach(), answers[0]])[None],
        scores=lambda rows: {"error": float((rows[:, 0] - rows[:, 1]).abs().mean())},
        join=torch.cat, by_place=False, make_head=lambda features, seed: nn.Conv2d(features.shape[1], 1, 1),
    )  # fmt: skip


def test_a_task_brings_a_head_of_its_own_and_joins_what_scenes_say_as_it_likes():
    task = rows_of_detections()
    head = task.head(torch.ones(1, 2, 4, 4), 0)
    sums = [task.sums(head(s.features), s.answers) for s in (task.read(None, scene(0, n), 9) for n in (3, 5))]
    both = task.join(sums)
    assert both.shape == (2, 2)
    assert task.scores(both)["error"] == pytest.approx(4 - float(both[0, 0]), rel=1e-5)
    assert isinstance(semseg(CLASSES).head(torch.rand(7, 5), 0), nn.Module)
    with pytest.raises(ValueError, match="task: count does not ask place by place"):
        Plan(task, labels="places")
    with pytest.raises(ValueError, match="make_head: expected a head of the task count's own, got none"):
        replace(task, make_head=None)


def test_a_decoder_is_that_of_its_seed_and_blind_to_the_scale_of_features():
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    one, same, other = (semseg(CLASSES).head(features, seed) for seed in (4, 4, 5))
    assert torch.equal(state, torch.get_rng_state())
    assert_close(one(features), same(features), rtol=0, atol=0)
    assert not torch.allclose(one(features), other(features))
    scaled = features * torch.tensor([1e2, 1e-1, 3.0]) + 7
    assert_close(one(scaled), one(features), rtol=0, atol=2e-3)  # eps of the norm: 1e-5
