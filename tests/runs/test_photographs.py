"""Posed photographs alone: the range comes from the cameras, once, and stays in the run's settings."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from renderpretrain.data.photographs import photographed_space
from renderpretrain.data.words import data_words
from renderpretrain.recipes import RECIPES
from renderpretrain.runs import describe_run, saved_tree
from renderpretrain.storage.yaml_text import read_yaml_mapping
from renderpretrain.verbs import pretrain

TARGET = np.array([4.0, -2.0, 1.0])
RADIUS = 3.0


def towards(center):
    """OpenCV pose of a camera that looks at the target."""
    ahead = (TARGET - center) / np.linalg.norm(TARGET - center)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(ahead, right), ahead, center], 1)
    return pose.tolist()


def write_ring(path, count=6, **told):
    """Cameras on a ring around the target."""
    frames = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        center = TARGET + RADIUS * np.array([math.cos(angle), math.sin(angle), 0])
        values = np.random.default_rng(k).integers(0, 255, (32, 64, 3), dtype=np.uint8)
        Image.fromarray(values).save(path / f"{k}.png")
        frames.append({"color": f"{k}.png", "width": 64, "height": 32, "camera_to_world": towards(center)})
    content = {
        "format": "posed_rgb",
        "intrinsics": [[60, 0, 31.5], [0, 60, 15.5], [0, 0, 1]],
        "frames": frames,
    }
    (path / "frames.json").write_text(json.dumps(content | told))


def space_of(spec):
    (word,) = data_words(spec)
    return photographed_space(word)


def test_cameras_around_a_thing_say_where_it_is(tmp_path):
    write_ring(tmp_path)
    box, farthest = space_of(f"folder:{tmp_path}")
    half = 1.25 * RADIUS
    assert np.allclose(box, [*(TARGET - half), *(TARGET + half)], atol=0.05)
    corners = [half * np.array([a, b, c]) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
    ring = [RADIUS * np.array([math.cos(k * math.pi / 3), math.sin(k * math.pi / 3), 0]) for k in range(6)]
    corner = max(np.linalg.norm(one - other) for one in corners for other in ring)
    assert farthest == pytest.approx(corner, abs=0.1)


def test_what_a_recording_says_of_its_extent_wins_also_in_map_coordinates(tmp_path):
    extent = [3.0, -3.0, 0.0, 5.0, -1.0, 2.0]
    write_ring(tmp_path, extent=extent)
    assert space_of(f"folder:{tmp_path}")[0] == tuple(extent)
    content = json.loads((tmp_path / "frames.json").read_text())
    far = np.array([5e6, 4e6, 0])
    for frame in content["frames"]:
        for row in range(3):
            frame["camera_to_world"][row][3] += far[row]
    del content["extent"]
    (tmp_path / "frames.json").write_text(json.dumps(content))
    box, _ = space_of(f"folder:{tmp_path}")  # around the first camera, as scenes are
    assert np.allclose(np.add(box[:3], box[3:]) / 2, -RADIUS * np.array([1, 0, 0]), atol=1)


def test_cameras_in_one_place_are_a_metre_from_the_walls_and_depth_has_no_space(tmp_path):
    write_ring(tmp_path, count=1)
    box, _ = space_of(f"folder:{tmp_path}")
    assert np.allclose(np.subtract(box[3:], box[:3]), 2)
    write_ring(tmp_path, format="posed_rgbd")
    assert space_of(f"folder:{tmp_path}") is None and space_of("synthetic") is None


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_only_the_recipe_that_can_learn_from_them_changes(tmp_path, preset):
    write_ring(tmp_path)
    flags = {"data": f"folder:{tmp_path}", "preset": preset}
    config = describe_run("unipad-camera", flags, [], saved={}).config
    low, high = np.array(config.point_cloud_range).reshape(2, 3)
    assert np.abs((low + high) / 2 - TARGET).max() < 0.2 and np.all(high - low >= 2.4 * RADIUS)
    counts = (high - low) / config.voxel_size
    assert np.allclose(counts, counts.round(), atol=1e-3) and counts.max() <= 72
    assert config.losses.depth == config.losses.sdf == config.losses.depth_bins == 0 < config.losses.rgb
    told = describe_run("unipad-camera", flags, [{"losses": {"depth": 0.5}}], saved={}).config
    assert told.losses.depth == 0.5  # what the user says wins
    other = describe_run("uniscene", flags, [], saved={}).config
    assert other == RECIPES["uniscene"].presets[preset]


def test_fox_is_learned_from_as_it_is(realdata):
    config = describe_run("unipad-camera", {"data": f"nerf:{realdata / 'fox'}"}, [], saved={}).config
    low, high = np.array(config.point_cloud_range).reshape(2, 3)
    frames = json.loads((realdata / "fox" / "frames.json").read_text())["frames"]
    centers = np.array([frame["camera_to_world"] for frame in frames])[:, :3, 3]
    assert ((centers > low) & (centers < high)).all() and config.losses.depth == 0


def test_a_run_trains_keeps_its_range_and_goes_on_with_it(tmp_path):
    data, out = tmp_path / "ring", tmp_path / "run"
    data.mkdir()
    write_ring(data)
    small = {
        "image_size": [32, 64],
        "sampler.num_samples": 8,
        "sampler.num_importance": 4,
        "rays.per_view": 16,
    }
    small |= {"channels": 16, "voxel_size": [1.0, 1.0, 1.0], "point_cloud_range": [0, -6, -3, 8, 2, 5]}
    range_of_data = describe_run("unipad-camera", {"data": f"folder:{data}"}, [], saved={}).config
    pretrain("unipad-camera", data=f"folder:{data}", out=out, steps=1, set=small)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss/rgb"] for row in rows if "loss/rgb" in row]
    assert losses and losses[0] > 0
    saved = read_yaml_mapping(out / "config.yaml")["config"]
    assert saved["image"]["depth_range"] == list(range_of_data.image.depth_range)
    write_ring(data, extent=[0, 0, 0, 1, 1, 1])  # a resumed run does not look again
    resumed = describe_run("unipad-camera", {}, [], saved=saved_tree(out)).config
    assert list(resumed.image.depth_range) == saved["image"]["depth_range"]


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.endswith(("-camera", "ns-mae"))])
def test_a_recipe_that_cannot_learn_from_them_names_one_that_can(tmp_path, name):
    write_ring(tmp_path)
    with pytest.raises(
        ValueError, match=r"has no .*needs them; what learns from it: unipad-camera, render-distill-camera$"
    ) as caught:
        pretrain(name, data=f"folder:{tmp_path}", out=tmp_path / "run", steps=1)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
