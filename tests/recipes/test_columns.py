"""Which columns of their points encoders read."""

from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close
from variants import batch_of, build, scenes_for, small, street, with_points

from renderpretrain.cli import main
from renderpretrain.data import MixedScenes, SyntheticRoom
from renderpretrain.encoders import voxelize
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.columns import PointInput
from renderpretrain.runs.settings import resolve
from renderpretrain.training import step_cost, with_fake_tensors

GRID = VoxelGrid((-3.2, -3.2, -0.2, 3.2, 3.2, 3.0), (0.4, 0.4, 0.4))
PLACED = ("unipad-lidar", "unipad-fusion", "ns-mae")
READERS = (*PLACED, "ponder-outdoor", "ponder-indoor")


@pytest.fixture(scope="module")
def room():
    """Rooms have all columns."""
    return SyntheticRoom(1, num_views=2, num_points=2000, with_truth=False)[0]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("x y z beam", r"points.3: input should be 'x', 'y', .* or 'nz', got beam"),
        ("x y z intensity intensity", "points: expected columns of points, none of them twice, got "),
        ("y x z", "points: expected x, y, z "),
        ("intensity x y z", "points: expected x, y, z first"),
        ("x y z r g", "points: expected r, g, b together"),
        ("x y z nz ny nx", "points: expected nx, ny, nz together"),
        ("", "points: expected "),
    ],
)
def test_a_setting_that_is_no_list_of_columns_is_refused(name, points, said):
    with pytest.raises(ValueError, match=said):
        resolve(RECIPES[name].presets["tiny"], [{"points": points.split()}])


@pytest.mark.parametrize("name", READERS)
def test_only_an_encoder_whose_host_reads_features_alone_does_without_places(name):
    changes = [{"points": ["r", "g", "b"]}]
    if name in PLACED:
        with pytest.raises(ValueError, match="points: expected x, y, z first"):
            resolve(RECIPES[name].presets["tiny"], changes)
    else:
        assert resolve(RECIPES[name].presets["tiny"], changes).points == ("r", "g", "b")


def test_published_columns():
    """nuScenes' ten sweeps have five, its key sweep four; rooms have colour and normal, ours intensity."""
    paper = {name: " ".join(RECIPES[name].presets["paper"].points) for name in READERS}
    tiny = {name: " ".join(RECIPES[name].presets["tiny"].points) for name in READERS}
    assert paper == dict.fromkeys(PLACED, "x y z intensity lag") | {
        "ponder-outdoor": "x y z intensity",
        "ponder-indoor": "r g b nx ny nz",
    }
    assert tiny == paper | {"ponder-indoor": "x y z intensity"}


@pytest.mark.parametrize("columns", [("x", "y", "z"), ("x", "y", "z", "intensity", "lag")])
def test_columns_that_every_scene_has_are_means_of_the_points(columns, room):
    batch = batch_of([room])
    read = PointInput(columns)(batch, batch.points.valid, GRID)
    expected = voxelize(batch.points.columns(columns), batch.points.valid, GRID)
    assert_close(read.features, expected.features, rtol=0, atol=0)
    assert torch.equal(read.point_to_voxel, expected.point_to_voxel)


@pytest.mark.parametrize("columns", ["x y z lag nx ny nz", "r g b nx ny nz", "nx ny nz r g b", "x y z r g b"])
def test_colours_and_normals_are_read_by_name_in_any_order(columns, room):
    """Colours in [-1, 1], as Pointcept has them."""
    batch = batch_of([room])
    voxels = PointInput(tuple(columns.split()))(batch, batch.points.valid, GRID)
    x, y, z, _, lag = room.points.unbind(-1)
    known = dict(zip("rgb", (2 * room.colors - 1).unbind(-1), strict=True)) | {"x": x, "y": y, "z": z}
    known |= dict(zip(("nx", "ny", "nz"), room.normals.unbind(-1), strict=True)) | {"lag": lag}
    rows = voxels.point_to_voxel[0]
    for i, name in enumerate(columns.split()):
        sums = torch.zeros(len(voxels.counts)).index_add(0, rows[rows >= 0], known[name][rows >= 0])
        assert_close(voxels.features[:, i], sums / voxels.counts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "points"),
    [
        ("unipad-lidar", ["x", "y", "z"]),
        ("ns-mae lidar", ["x", "y", "z", "intensity", "lag"]),
        ("ponder-outdoor", ["x", "y", "z", "lag", "intensity"]),
        ("ponder-indoor", ["r", "g", "b", "nx", "ny", "nz"]),
    ],
)
def test_every_column_that_is_set_is_learned_from(variant, points):
    """Not the time lag of a single sweep, which is 0; but PonderV2's token has one."""
    recipe = build(variant, points=points)
    batch = batch_of(scenes_for(variant, points=points))
    terms = recipe(batch)
    torch.stack(list(terms.values())).sum().backward()
    (kernel,) = (p for n, p in recipe.named_parameters() if n.endswith("encoder.conv_input.0.weight"))
    assert kernel.shape[4] == len(points)
    reached = kernel.grad.flatten(0, 3).abs().amax(0) > 0
    assert reached.tolist() == [name != "lag" or variant == "ponder-outdoor" for name in points]
    (read,) = (m for m in recipe.modules() if isinstance(m, PointInput))
    assert (read.largest > 0).tolist() == [name != "lag" for name in points]


def test_what_is_constant_is_noticed_in_training_alone(room):
    read = PointInput(("x", "y", "z", "intensity", "lag"))
    batch = batch_of([room])
    hidden = batch.points.valid.clone()
    hidden[:, 100:] = False
    read.eval()(batch, hidden, GRID)
    assert not read.largest.any()
    read.train()(batch, hidden, GRID)
    assert_close(read.largest, room.points[:100].abs().amax(0))
    older = with_points(batch, lag=batch.points.lag + 0.5)
    read(older, hidden, GRID)
    assert_close(read.largest[3:], torch.tensor([float(room.points[:100, 3].max()), 0.5]))


def test_scales_are_those_of_the_columns_names():
    config = small("ponder-outdoor", points=["x", "y", "z", "lag", "intensity"], input_scale=[1, 2, 3, 4])
    assert RECIPES["ponder-outdoor"].build(config).scale.tolist() == [1, 2, 3, 1, 4]


def test_what_the_data_lacks_is_refused_before_the_first_step(room):
    config = small("unipad-lidar", points=["x", "y", "z", "intensity", "r", "g", "b"])
    said = (
        r"points: scene 'street-0-0' has no r, g, b, it has x, y, z, intensity, lag; "
        r"set points=\[x,y,z,intensity\]"
    )
    scenes = street(config.image_size)
    with pytest.raises(ValueError, match=said):
        RECIPES["unipad-lidar"].prepare(config, scenes, 0)
    rooms = SyntheticRoom(2, num_views=1, image_size=config.image_size, with_truth=False)
    with pytest.raises(ValueError, match=said):
        RECIPES["unipad-lidar"].prepare(config, MixedScenes([rooms, scenes]), 0)
    assert RECIPES["unipad-lidar"].prepare(config, rooms, 0) is rooms
    camera = config.model_copy(update={"modality": "camera"})
    assert RECIPES["unipad-camera"].prepare(camera, scenes, 0) is scenes
    batch = batch_of([rooms[0], scenes[0]])
    with pytest.raises(ValueError, match=said):
        PointInput(config.points)(batch, batch.points.valid, GRID)


def test_the_columns_are_shown(capsys):
    with pytest.raises(SystemExit):
        main(["recipes", "show", "ponder-indoor", "--preset", "paper"])
    assert "points: [r, g, b, nx, ny, nz]" in capsys.readouterr().out


def test_a_dry_run_finds_the_voxels_whatever_columns_are_read():
    """Its weights have no numbers, but points and voxels do."""
    columns = {"points": ["r", "g", "b", "nx", "ny", "nz"]}
    recipe = with_fake_tensors(lambda: build("ponder-indoor", **columns))
    batch = batch_of(scenes_for("ponder-indoor"))
    valid = batch.points.valid
    few = with_points(batch, valid=valid & (torch.arange(valid.shape[1]) < 500))
    costs = [step_cost(recipe, seen, small("ponder-indoor").optimization) for seen in (few, batch)]
    assert 0 < costs[0].forward_flops < costs[1].forward_flops


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
@pytest.mark.filterwarnings("ignore")  # where a graph ends the compiler warns in many words of its own
def test_a_graph_serves_scenes_of_any_name(room):
    torch._dynamo.reset()
    counter = CompileCounter()
    read = torch.compile(PointInput(("x", "y", "z", "r", "g", "b")), backend=counter)
    counts = []
    for name in ("one", "two", "three"):
        batch = batch_of([replace(room, name=name)])
        read(batch, batch.points.valid, GRID)
        counts.append(counter.frame_count)
    assert counts == [counts[0]] * 3 and counts[0] > 0
