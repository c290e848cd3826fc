"""PonderV2 indoors with classes, and on several data sets at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

from renderpretrain.data import MixedScenes, SyntheticRoom, collate
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve
from renderpretrain.training import pictures
from renderpretrain.training.distributed import Process
from renderpretrain.training.evaluate import evaluate

ENTRY = RECIPES["ponder-indoor"]
SIZE = {"image_size": (48, 64), "num_views": 2, "num_points": 3000, "with_truth": False}


def small(**updates):
    """The tiny preset with classes, coarser and narrower, so that a step takes a fraction of a second."""
    narrow = {
        "voxel_size": [0.2, 0.2, 0.2],
        "image_size": [48, 64],
        "encoder": {"voxel_size": [0.1, 0.1, 0.1], "stem_channels": 8, "channels": [8, 16, 16, 16]},
        "sampler": {"num_samples": 24, "num_importance": 0},
        "rays": {"per_view": 32},
        "context_channels": 8,
        "embeddings": "hashed:12",
    }
    return resolve(ENTRY.presets["tiny-semantic"], [narrow, updates])


@pytest.fixture(scope="module")
def mixed():
    return MixedScenes([SyntheticRoom(2, **SIZE), SyntheticRoom(2, night=True, **SIZE)])


def batch_of(mixed, *indices):
    return collate([mixed[i] for i in indices], torch.tensor([11 + i for i in indices]))


def without_classes(scene):
    return replace(scene, point_labels=None, pixel_labels=None, class_names=())


def encoder_gradient(recipe):
    return sum(float(p.grad.abs().sum()) for p in recipe.encoder.parameters() if p.grad is not None)


def test_every_parameter_gets_a_gradient_and_every_term_counts(mixed):
    recipe = ENTRY.build(small(domains=2))
    terms = recipe(batch_of(mixed, 0, 2))
    assert {"depth", "rgb", "sdf", "free_space", "eikonal", "semantic", "alignment"} == set(terms)
    assert all(value > 0 for value in terms.values())
    sum(terms.values()).backward()
    assert [n for n, p in recipe.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in recipe.parameters())
    assert set(recipe.encoders()) == {"point_encoder", "contexts"}


@pytest.mark.parametrize("term", ["semantic", "alignment"])
def test_terms_of_classes_reach_the_encoder_and_weights_are_factors(mixed, term):
    values = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        recipe = ENTRY.build(small(losses={term: weight})).eval()
        values.append(recipe(batch_of(mixed, 0))[term])
    assert_close(values[1], 3 * values[0])
    values[1].backward()
    assert encoder_gradient(recipe) > 0
    assert term not in ENTRY.build(small(losses={term: 0}))(batch_of(mixed, 0))


def test_alignment_is_the_cross_entropy_of_each_points_voxel_among_its_own_sets_classes(mixed):
    recipe = ENTRY.build(small(domains=2, losses={"alignment": 1.0})).eval()
    batch = batch_of(mixed, 1, 3)
    hidden = recipe.hide(batch)
    with torch.no_grad():
        found = recipe(batch)["alignment"]
        voxels, features = recipe._encode(batch, hidden)
        said = recipe.to_classes(features)
    vectors = recipe.vectors.vocabulary(batch).embeddings
    expected = []
    for b, own in enumerate(batch.class_names):
        table = torch.stack([vectors.vectors[vectors.names.index(name)] for name in own[1:]])
        losses = []
        for p in range(batch.points.xyz.shape[1]):
            voxel = int(voxels.point_to_voxel[b, p])
            if voxel >= 0:
                logits = normalize(said[voxel], dim=0) @ table.T / 0.01
                losses.append(logits.logsumexp(0) - logits[batch.points.labels[b, p] - 1])
        inside = recipe.grid.contains(batch.points.xyz)  # a corner of a turned room may reach out of the grid
        assert len(losses) == (batch.points.valid & ~hidden.points & inside)[b].sum()
        expected.append(torch.stack(losses).mean())
    # Cosines in float32, times a hundred.
    assert_close(found, torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


def test_rays_carry_the_classes_of_their_pixels(mixed):
    recipe, batch = ENTRY.build(small(domains=2)), batch_of(mixed, 0, 3)
    targets = recipe.targets(batch)
    u, v = targets.pixels.long().unbind(-1)
    b = torch.arange(2)[:, None]
    assert torch.equal(targets.labels, batch.views.labels[b, targets.camera, v, u].long())
    assert (targets.labels > 0).all() and targets.labels[1].max() <= 5 < targets.labels[0].max()


def test_equal_names_are_one_class_and_a_set_answers_with_its_own(mixed):
    recipe, batch = ENTRY.build(small(domains=2)), batch_of(mixed, 0, 2)
    words = recipe.vectors.vocabulary(batch)
    day, night = batch.class_names
    labels = torch.tensor([[0, day.index("wall"), day.index("sofa")], [0, night.index("wall"), 4]])
    rows = words.rows_of(labels)
    assert rows[0, 0] == rows[1, 0] == -1  # empty space
    assert rows[0, 1] == rows[1, 1] and words.embeddings.names[rows[0, 2]] == "sofa"
    assert words.rows_of(torch.tensor([[-1, 99], [-1, 8]])).tolist() == [[-1, -1], [-1, -1]]
    # The direction of the sofa: at night there is none, and the nearest other class is said.
    sofa = words.embeddings.vectors[rows[0, 2]].expand(2, 1, -1)
    said = words.nearest(3 * sofa)
    assert said[0] == day.index("sofa") and 1 <= said[1] <= 5
    assert torch.equal(words.nearest(words.embeddings.vectors[rows[:, 1:2]]), labels[:, 1:2])


def test_a_data_sets_statistics_come_from_its_own_samples_alone(mixed):
    """Day alone, and day together with night, leave the same statistics of the day."""
    states = []
    for indices in ([0, 1], [2, 0, 3, 1]):
        torch.manual_seed(0)
        recipe = ENTRY.build(small(domains=2)).train()
        recipe.encode(batch_of(mixed, *indices))
        states.append(recipe.encoder.state_dict())
    for name, value in states[0].items():
        if ".bns.0.running" in name:
            # Sums over other rows in between, in float32.
            assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)
    fresh = ENTRY.build(small(domains=2)).encoder.state_dict()
    of_night = [n for n in fresh if ".bns.1.running" in n]
    assert of_night and all(torch.equal(states[0][n], fresh[n]) for n in of_night)
    assert not any(torch.equal(states[1][n], fresh[n]) for n in of_night)


def test_a_batch_of_two_data_sets_is_two_batches_of_one(mixed):
    """With batch-norm statistics frozen, and different ones for the two sets."""
    recipe = ENTRY.build(small(domains=2))
    for index in (0, 2):
        recipe.train().encode(batch_of(mixed, index))
    recipe.eval()
    both = recipe(batch_of(mixed, 0, 2))
    singles = [recipe(batch_of(mixed, index)) for index in (0, 2)]
    for term, value in both.items():
        assert_close(value, (singles[0][term] + singles[1][term]) / 2, rtol=1e-5, atol=1e-5)
    # And the sets are treated differently: the same room as if it were from the other one.
    swapped = replace(batch_of(mixed, 0), domains=(1,))
    volumes = [recipe.encode(batch) for batch in (batch_of(mixed, 0), swapped)]
    assert (volumes[0] - volumes[1]).abs().max() > 1e-3 * volumes[0].abs().max()


def test_with_one_domain_a_mixture_shares_its_norms(mixed):
    recipe = ENTRY.build(small())
    assert recipe.contexts is None and "point_encoder" in recipe.encoders()
    assert recipe(batch_of(mixed, 0, 2))["alignment"] > 0


def test_a_file_gives_vectors_by_name(mixed, tmp_path):
    names = np.array(["sofa", "wall", "unheard of"])
    np.savez(tmp_path / "few.npz", names=names, vectors=np.eye(3, 5, dtype=np.float32))
    config = small(embeddings=str(tmp_path / "few.npz"))
    recipe, batch = ENTRY.build(config), batch_of(mixed, 0)
    words = recipe.vectors.vocabulary(batch)
    assert words.embeddings.names == ("sofa", "wall") and recipe.vectors.channels == 5
    sofa = words.rows_of(torch.tensor([[batch.class_names[0].index("sofa")]]))
    assert torch.equal(words.embeddings.targets(sofa)[0], torch.eye(5)[None, :1])
    assert recipe(batch)["semantic"] > 0
    np.savez(tmp_path / "none.npz", names=np.array(["a"]), vectors=np.ones((1, 3), dtype=np.float32))
    recipe = ENTRY.build(small(embeddings=str(tmp_path / "none.npz")))
    with pytest.raises(ValueError, match=r"for classes of scene 'room-0-0' \(free, floor, .*got none"):
        recipe(batch)


def test_terms_of_classes_say_what_they_lack(mixed):
    with pytest.raises(
        ValueError, match=r"embeddings: expected an .npz .* set losses.semantic=0 losses.alignment=0"
    ):
        ENTRY.build(small(embeddings=None))
    with pytest.raises(ValueError, match=r"for losses.semantic is on; .* set losses.semantic=0$"):
        ENTRY.build(small(embeddings=None, losses={"alignment": 0}))
    with pytest.raises(ValueError, match="expected hashed:C with a width, as hashed:64, got 'hashed:x'"):
        ENTRY.build(small(embeddings="hashed:x"))
    bare = collate([without_classes(mixed[0])], torch.tensor([1]))
    with pytest.raises(ValueError, match=r"has no classes of pixels: .* set losses.semantic=0 losses.align"):
        ENTRY.build(small())(bare)
    with pytest.raises(ValueError, match="'room-0-0' has no classes of points"):
        ENTRY.build(small(losses={"semantic": 0}))(replace(bare, class_names=(("wall",),)))
    with pytest.raises(ValueError, match=r"2 data sets, got scene 'night-0-0' of number 2; set domains=3"):
        ENTRY.build(small(domains=2))(replace(batch_of(mixed, 0, 2), domains=(0, 2)))


def test_one_of_several_data_sets_may_have_no_classes(mixed):
    recipe = ENTRY.build(small(domains=2))
    bare = without_classes(mixed[2])
    alone = recipe(collate([bare], torch.tensor([1])))
    assert alone["semantic"] == alone["alignment"] == 0 and alone["depth"] > 0
    sum(alone.values()).backward()
    both = recipe(collate([mixed[0], bare], torch.tensor([1, 2])))
    assert both["semantic"] > 0 and both["alignment"] > 0


def test_everything_dropped_still_gives_a_step(mixed):
    terms = ENTRY.build(small(domains=2, mask={"ratio": 1.0}))(batch_of(mixed, 0, 2))
    sum(terms.values()).backward()
    assert terms["alignment"] == 0 and all(torch.isfinite(v) for v in terms.values())


def test_held_out_scenes_get_a_semantic_score(mixed):
    recipe, process = ENTRY.build(small(domains=2)), Process(0, 1, torch.device("cpu"))
    found = evaluate(recipe, mixed, [1, 3], process=process, num_rays=40)
    assert 0 <= found["semantic_miou"] < 0.5  # nothing is learnt yet
    # A recipe that always says what is true scores one.
    recipe.classes = lambda batch, rendered: recipe.targets(batch, 40).labels
    assert evaluate(recipe, mixed, [1, 3], process=process, num_rays=40)["semantic_miou"] == 1
    plain = ENTRY.build(small(losses={"semantic": 0, "alignment": 0}))
    assert "semantic_miou" not in evaluate(plain, mixed, [1], process=process, num_rays=40)


def test_a_picture_shows_classes(mixed, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, **legend: drawn.extend(rows) or path
    )
    pictures.save_picture(ENTRY.build(small(domains=2)), mixed[2], tmp_path / "p.png", title="t")
    for _, panels in drawn:
        assert [caption for caption, _ in panels][-2:] == ["rendered classes", "classes"]
        assert panels[-1][1].shape == panels[-2][1].shape
