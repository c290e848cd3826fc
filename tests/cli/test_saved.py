"""What a resumed run may be told, and what its ``config.yaml`` may say."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from renderpretrain.runs import describe_run, recipe_settings
from renderpretrain.runs.saved import saved_tree
from renderpretrain.runs.settings import parse_assignment


def resumed(name, *told, **flags):
    saved = describe_run(name, {"scenes": 8}, [], saved={}).as_tree()
    return describe_run(name, flags, [parse_assignment(text) for text in told], saved=saved)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("unipad-camera", "image.weights=other.pth"),
        ("unipad-camera", "image.layer_scale=0.5"),
        ("unipad-lidar", "field.sharpness=3"),
        ("ponder-indoor", "field.sharpness=3"),
        ("ns-mae", "image.weights=other.pth"),
        ("uniscene", "image.weights=other.pth"),
    ],
)
def test_what_only_fresh_weights_look_at_cannot_change(name, told):
    setting = told.partition("=")[0]
    with pytest.raises(
        ValueError, match=f"^{setting}: expected .*, as in the resumed run, whose weights have"
    ):
        resumed(name, told)


def test_what_a_step_looks_at_can(name="unipad-lidar"):
    job = resumed(name, "mask.ratio=0.25", "optimization.weight_decay=3", "losses.depth=2")
    assert (job.config.mask.ratio, job.config.optimization.weight_decay) == (0.25, 3)
    assert job.config.losses.depth == 2


def test_former_names_are_read_from_files_and_refused_from_flags(tmp_path):
    saved = describe_run("unipad-lidar", {"scenes": 8}, [], saved={}).as_tree()
    saved["config"]["lidar"] = {"mask_ratio": 0.25}
    del saved["config"]["mask"]["ratio"]
    assert describe_run("unipad-lidar", {}, [], saved=saved).config.mask.ratio == 0.25
    (tmp_path / "config.yaml").write_text("render: {rays_per_camera: 7}")
    told = recipe_settings(tmp_path / "config.yaml", "unipad-lidar")
    assert describe_run("unipad-lidar", {}, [told], saved={}).config.rays.per_view == 7
    with pytest.raises(ValueError, match=r"^lidar\.mask_ratio: is called mask\.ratio$"):
        describe_run("unipad-lidar", {}, [parse_assignment("lidar.mask_ratio=1")], saved={})


@pytest.mark.parametrize("flag", [{"seed": 1}, {"scenes": 4}, {"holdout": 1}, {"preset": "paper"}], ids=str)
def test_another_run_is_not_resumed(flag):
    with pytest.raises(ValueError, match=f"^{next(iter(flag))}: expected .*, as in the resumed run, got"):
        resumed("unipad-lidar", **flag)


@pytest.mark.parametrize("flag", [{"seed": 2**63}, {"seed": -(2**63) - 1}, {"scenes": 10**12}], ids=str)
def test_numbers_that_nothing_can_take_are_refused(flag):
    with pytest.raises(ValueError, match=f"^{next(iter(flag))}: expected a whole number from .*, got"):
        describe_run("unipad-lidar", flag, [], saved={})


def test_runs_of_before_pictures_kept_their_proportions_go_on_as_they_began(tmp_path):
    """A saved word without ``fit`` is one of a run that stretched them; a new run says what it does."""
    data = f"folder:{tmp_path}/x"
    new = describe_run("unipad-lidar", {"data": data}, [], saved={})
    assert new.data == f"{data}?fit=pad"
    cut = describe_run("unipad-lidar", {"data": f"{data}?max_gap=3&fit=crop"}, [], saved={})
    assert cut.data == f"{data}?max_gap=3&fit=crop"
    saved = new.as_tree() | {"data": f"{data}?max_gap=3+synthetic", "skipped": {f"{data}?max_gap=3": [2]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved | {"scenes": 8}))
    old = describe_run("unipad-lidar", {}, [], saved=saved_tree(tmp_path))
    stretched = f"{data}?max_gap=3&fit=stretch"
    assert (old.data, old.skipped) == (f"{stretched}+synthetic", {stretched: [2]})
    for told in (f"{data}?max_gap=3+synthetic", f"{stretched}+synthetic"):
        again = describe_run("unipad-lidar", {"data": told}, [], saved=saved_tree(tmp_path))
        assert again.data == old.data
    with pytest.raises(
        ValueError, match=r"^data: expected .*fit=stretch.*as in the resumed run, got .*fit=pad"
    ):
        describe_run(
            "unipad-lidar",
            {"data": f"{data}?max_gap=3&fit=pad+synthetic"},
            [],
            saved=saved_tree(tmp_path),
        )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    SCALARS, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=3), t), max_leaves=6
)
KEYS = ["recipe", "preset", "data", "scenes", "holdout", "seed", "init", "config", "encoder"]


@given(changes=st.dictionaries(st.sampled_from(KEYS), TREES, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_saved_file_is_taken_or_refused_in_one_line(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("run")
    saved = describe_run("unipad-lidar", {"scenes": 8}, [], saved={}).as_tree() | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(saved))
    try:
        tree = saved_tree(folder)
        describe_run(str(tree.get("recipe")), {}, [], saved=tree)
    except ValueError as error:
        assert "\n" not in str(error)
