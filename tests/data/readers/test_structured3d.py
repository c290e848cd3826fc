"""Structured3D's own files, written from a room whose depths are known."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, open_data, validate_scene_folder
from renderpretrain.data.readers import READERS
from tests.data.readers.posed import depth_image, picture, same_loss, warp_error
from tests.data.readers.rooms import CEILING, COLUMN, FLOOR, POSES, WALL, seen

STRUCTURED3D = READERS["structured3d"]
HALF_ANGLES = (0.588, 0.464)
"""Radians, from the middle to the left and to the lower edge."""

NYU = {FLOOR: 2, CEILING: 22, WALL: 1, COLUMN: 38}


def matrix_of(width=80, height=60):
    """The lens of the half angles: the left edge lies half a pixel left of the first centre."""
    fx, fy = (width / 2 / np.tan(HALF_ANGLES[0]), height / 2 / np.tan(HALF_ANGLES[1]))
    return np.array([[fx, 0, width / 2 - 0.5], [0, fy, height / 2 - 0.5], [0, 0, 1]])


def write_view(folder, pose, seed=0):
    """A view as the data set has it: position, towards, up in the world, half angles, and a 1."""
    _, down, forward = pose[:3, :3].T
    numbers = [*(1000 * pose[:3, 3]), *(3 * forward), *(-down), *HALF_ANGLES, 1]
    folder.mkdir(parents=True)
    (folder / "camera_pose.txt").write_text(" ".join(f"{number:.6f}" for number in numbers))
    depth, kinds = seen(pose, matrix_of())
    depth_image(folder / "depth.png", (1000 * depth).round())
    labels = np.vectorize(NYU.get)(kinds).astype(np.uint8)
    labels[:2] = 0
    stored = Image.fromarray(labels, "P")
    stored.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    stored.save(folder / "semantic.png")
    picture(folder / "rgb_rawlight.png", (60, 80), seed)
    Image.open(folder / "rgb_rawlight.png").convert("RGBA").save(folder / "rgb_rawlight.png")


def write_house(root, scene="scene_00000", rooms=("485142",), views=4):
    for room in rooms:
        for k in range(views):
            write_view(root / scene / "2D_rendering" / room / "perspective/full" / str(k), POSES[k], k)


def test_depth_of_one_view_is_that_of_the_next(tmp_path):
    """A pose of another convention, or a picture's middle half a pixel off, is off by centimetres."""
    write_house(tmp_path)
    folder = open_data(f"structured3d:{tmp_path}")
    scene = folder[0]
    for k, pose in enumerate(POSES):
        assert_close(scene.cameras.camera_to_world[k].numpy(), pose.astype(np.float32), rtol=0, atol=1e-5)
    errors = [warp_error(scene, k, j) for k in range(4) for j in range(4) if k != j]
    assert max(errors) < 0.02
    # Every point lies on a face of the room or the pillar, within a millimetre of rounding.
    x, y, z = scene.points[:, :3].T
    off = torch.stack([x, 5 - x, y, 4 - y, z, 3 - z, x - 2.2, x - 2.8, y - 2.6, y - 3.1]).abs().amin(0)
    assert float(off.max()) < 0.002
    assert validate_scene_folder(tmp_path, reader=STRUCTURED3D) == []


def test_classes_are_the_25_of_ponder(tmp_path):
    write_house(tmp_path)
    scene = open_data(f"structured3d:{tmp_path}")[0]
    assert len(scene.class_names) == 26 and scene.class_names[1:4] == ("wall", "floor", "cabinet")
    assert scene.class_names[10:13] == ("picture", "desk", "shelves") and scene.class_names[-1] == "otherprop"
    _, kinds = seen(POSES[0], matrix_of())
    names = np.array(scene.class_names)[scene.pixel_labels[0].numpy()]
    told = {WALL: "wall", FLOOR: "floor", CEILING: "ceiling", COLUMN: "otherstructure"}
    assert (names[2:] == np.vectorize(told.get)(kinds[2:])).all()
    assert (scene.pixel_labels[:, :2] == -1).all()


def test_the_loss_is_that_of_the_same_frames_json(tmp_path):
    write_house(tmp_path)
    folder = open_data(f"structured3d:{tmp_path}")
    (tmp_path / "frames.json").write_text(json.dumps(STRUCTURED3D.content(folder.access)))
    one, other = same_loss(
        f"structured3d:{tmp_path}", f"folder:{tmp_path}", (64, 96), (0, 0, 0, 6.4, 6.4, 6.4)
    )
    assert one["depth"] > 0 and one == pytest.approx(other, rel=1e-6)


def test_houses_splits_and_strides_are_chosen(tmp_path, caplog):
    for scene in ("scene_00000", "scene_01155", "scene_03000", "scene_03250"):
        write_house(tmp_path / "Structured3D", scene, ("1", "2"), views=2)
    (tmp_path / "Structured3D/scene_00000/2D_rendering/1/perspective/full/0/depth.png").unlink()

    def rooms(options=""):
        return [frame.scene for frame in open_data(f"structured3d:{tmp_path}{options}").index.frames]

    # scene_01155 is in the list of errata.
    assert rooms("?split=train") == ["scene_00000/1", "scene_00000/2", "scene_00000/2"]
    assert "expected the files of 4 views, got none for 1" in caplog.text
    assert set(rooms("?split=val")) == {"scene_03000/1", "scene_03000/2"}
    assert rooms("?scenes=scene_03250&stride=2") == ["scene_03250/1", "scene_03250/2"]
    assert len(rooms()) == 11
    with pytest.raises(SceneFolderError, match=r"scenes: expected scene_00000, .*, got scene_9$"):
        rooms("?scenes=scene_9")
    with pytest.raises(ValueError, match="split: expected train, val or test"):
        rooms("?split=half")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "expected 11 finite numbers, got"),
        ("0 0 0 0 1 0 0 0 nan 0.5 0.5 1", "expected 11 finite numbers"),
        ("0 0 0 0 0 0 0 0 1 0.5 0.5 1", "expected directions of view and up that differ"),
        ("0 0 0 0 0 2 0 0 1 0.5 0.5 1", "expected directions of view and up that differ"),
        ("0 0 0 0 1 0 0 0 1 0 0.5 1", "expected half angles of view below 1.55 radians, got 0 and 0.5"),
        ("0 0 0 0 1 0 0 0 1 0.5 2 1", "expected half angles of view below 1.55 radians, got 0.5 and 2"),
    ],
)
def test_a_broken_pose_is_one_line_and_can_be_skipped(tmp_path, text, line):
    write_house(tmp_path, views=2)
    file = tmp_path / "scene_00000/2D_rendering/485142/perspective/full/1/camera_pose.txt"
    file.write_text(text)
    with pytest.raises(SceneFolderError) as caught:
        SceneFolder(tmp_path, reader=STRUCTURED3D)
    assert f"{file}: {line}" in str(caught.value) and "\n" not in str(caught.value)
    assert len(SceneFolder(tmp_path, reader=STRUCTURED3D, skip=[1]).index.frames) == 1


def test_nothing_to_read_is_one_line(tmp_path):
    with pytest.raises(SceneFolderError, match=r"expected scene_00000/2D_rendering and so on, got none$"):
        open_data(f"structured3d:{tmp_path}")
    (tmp_path / "scene_00000/2D_rendering/1/panorama/full").mkdir(parents=True)
    with pytest.raises(
        SceneFolderError, match=r"expected SCENE/2D_rendering/ROOM/perspective/full, got none"
    ):
        open_data(f"structured3d:{tmp_path}")
