"""Folders of sweeps in anybody's form: what their columns are, where and when they were taken."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolderError, open_data
from renderpretrain.data.formats.quaternions import rotations
from renderpretrain.data.opened import word_of
from renderpretrain.data.readers import READERS
from renderpretrain.data.readers.lidar_poses import named_stamps
from tests.data import format_files
from tests.data.readers.kitti_files import numbers, one_step, save_text, turn

LIDAR = READERS["lidar"]
POSES = [turn(0.01 * k, -0.02 * k, 0.3 * k, at=(1.5 * k, 0.2, -0.1 * k)) for k in range(3)]


def a_sweep(fourth=(0, 1), fifth=None, count=400):
    """Rows around a sensor; the fourth and fifth columns between two numbers, whole ones where they are."""
    rng = np.random.default_rng(0)
    columns = [rng.uniform(-40, 40, count), rng.uniform(-40, 40, count), rng.uniform(-2, 3, count)]
    for ends in (fourth, fifth):
        if ends is not None:
            whole = isinstance(ends[1], int) and ends[1] > 1
            inner = rng.integers(*ends, count) if whole else rng.uniform(*ends, count)
            columns.append(np.r_[ends, inner[2:]])
    return np.stack(columns, -1).astype("<f4")


@pytest.fixture
def recording(tmp_path):
    """Three sweeps of two kinds of rows: ``8``, ``9`` and ``10``."""
    for k, name in enumerate(("8", "9", "10")):
        a_sweep(count=100 + k).tofile(tmp_path / f"{name}.bin")
    return tmp_path


def points_of(scene):
    """Numbers of points of the key sweep and of all."""
    return int(scene.of_key_sweep.sum()), len(scene.points)


@pytest.mark.parametrize("folder", ["kitti_000001", "kitti_streets"])
def test_real_single_sweeps_are_what_frames_json_says(realdata, folder):
    native, neutral = (
        open_data(f"{w}:{realdata / folder}", image_size=(48, 96)) for w in ("lidar", "folder")
    )
    assert len(native) == len(neutral)
    for k in range(len(native)):
        assert torch.equal(native[k].points, neutral[k].points)
    assert torch.equal(open_data(f"lidar:{realdata / folder}", sweeps=5)[0].points, neutral[0].points)


def test_nuscenes_rows_are_recognised(realdata):
    scene = open_data(f"lidar:{realdata / 'nuscenes_keyframe'}")[0]
    neutral = open_data(f"folder:{realdata / 'nuscenes_keyframe'}", image_size=(48, 96))[0]
    assert torch.equal(scene.points, neutral.points)
    # Both fit it to the beams, which the fifth column numbers; the name ends in the time.
    assert_close(scene.lidar_origin, neutral.lidar_origin)
    assert scene.timestamp == pytest.approx(1532402927.647951, abs=1e-6)


def test_an_original_pcd_holds_the_points_of_the_rows_beside_it(realdata):
    path = realdata / "lidar_street_b"
    whole = open_data(f"lidar:{path}?layout=pcd")[0].points
    rows = open_data(f"folder:{path}")[5]
    assert rows.name.endswith("/10") and torch.equal(whole[::2], rows.points)


def test_the_loss_of_a_real_street_is_that_of_its_frames_json(realdata):
    path = realdata / "lidar_street_b"
    one, other = one_step(f"lidar:{path}?layout=bin"), one_step(f"folder:{path}")
    assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("form", ["kitti.txt", "tum.txt", "list.json", "names.json"])
def test_a_real_street_is_merged_as_its_frames_json_does(realdata, tmp_path, form):
    """Poses in all forms; the sweeps are copied since a file of poses lies beside them."""
    path = realdata / "lidar_street_b"
    frames = json.loads((path / "frames.json").read_text())["frames"][:3]
    poses = [np.array(frame["lidar"]["ego_to_global"]) for frame in frames]
    names = [frame["lidar"]["file"] for frame in frames]
    for name in names:
        shutil.copy(path / name, tmp_path)
    if form == "kitti.txt":
        save_text(tmp_path / form, *[numbers(pose[:3]) for pose in poses])
    elif form == "tum.txt":
        save_text(tmp_path / form, "# t x y z", *[f"{0.2 * k} {tum(pose)}" for k, pose in enumerate(poses)])
    else:
        listed = [pose.tolist() for pose in poses]
        content = listed if form == "list.json" else dict(zip(names, listed, strict=True))
        (tmp_path / form).write_text(json.dumps(content))
    rate = "" if form == "tum.txt" else "&rate=5"
    native = open_data(f"lidar:{tmp_path}?poses={form}{rate}", sweeps=3)
    neutral = open_data(f"folder:{path}", sweeps=3)
    # frames.json has six digits: the nearest rotation and the nearest quaternion of it differ by 1e-6.
    assert_close(native[2].points, neutral[2].points, rtol=0, atol=2e-4 if form == "tum.txt" else 1e-5)
    assert native[2].timestamp == pytest.approx(0.4)


def tum(pose):
    """Place and quaternion of a pose that turns by less than a third of a turn."""
    w = np.sqrt(1 + np.trace(pose[:3, :3])) / 2
    turned = pose[[2, 0, 1], [1, 2, 0]] - pose[[1, 2, 0], [2, 0, 1]]
    return numbers([*pose[:3, 3], *turned / (4 * w), w])


def test_quaternions_turn_as_exponentials_do():
    axis = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    for angle in (0.0, 0.7, 3.0, -2.0):
        generator = torch.from_numpy(np.cross(axis, np.eye(3)).T * angle)
        quaternion = np.r_[np.cos(angle / 2), axis * np.sin(angle / 2)]
        found = torch.from_numpy(rotations(quaternion[None])[0])
        assert_close(found, torch.linalg.matrix_exp(generator))


@pytest.mark.parametrize(
    ("fourth", "fifth", "columns"),
    [
        ((0, 1.0), None, "x,y,z,intensity"),
        ((0, 255), None, "x,y,z,intensity_0_255"),
        ((0.0, 254.5), None, "x,y,z,intensity_0_255"),
        ((0, 255), (0, 31), "x,y,z,intensity_0_255,ring"),
        ((0, 1.0), (0, 63), "x,y,z,intensity,ring"),
        ((0, 1.0), (0, 0.1), "x,y,z,intensity,t"),
        ((0, 63), None, None),  # beams, or dark intensities
        ((-1, 255), None, None),
        ((0, 70000), None, None),
        ((0, 255), (-5, 31), None),
        (None, None, None),
    ],
)
def test_rows_are_recognised_or_refused(tmp_path, fourth, fifth, columns):
    a_sweep(fourth, fifth).tofile(tmp_path / "0.bin")
    np.save(tmp_path / "0.npy", a_sweep(fourth, fifth))
    for layout in ("bin", "npy"):
        if columns is None:
            with pytest.raises(
                SceneFolderError, match=r"0.* expected rows of 4 or 5 numbers .*\?columns=x,y,z,int"
            ):
                open_data(f"lidar:{tmp_path}?layout={layout}")
        else:
            found = open_data(f"lidar:{tmp_path}?layout={layout}")
            assert found.index.frames[0].lidar.columns == columns.split(",") and len(found[0].points) == 400


def test_the_brightest_of_several_sweeps_tells_the_scale(tmp_path):
    a_sweep((0, 1.0)).tofile(tmp_path / "0.bin")
    a_sweep((0, 200)).tofile(tmp_path / "1.bin")
    assert open_data(f"lidar:{tmp_path}").index.frames[0].lidar.columns[3] == "intensity_0_255"
    a_sweep((0, 1.0), (0, 31)).tofile(tmp_path / "1.bin")
    with pytest.raises(
        SceneFolderError, match="columns: expected the same in all sweeps, got x,y,z,intensity and"
    ):
        open_data(f"lidar:{tmp_path}")


def test_columns_are_what_the_user_says(tmp_path):
    rows = a_sweep((0, 63), (-5, 31))
    rows.astype("<f8").tofile(tmp_path / "0.bin")
    folder = open_data(f"lidar:{tmp_path}?columns=x,y,z,ring,_&dtype=float64&intensity_scale=4")
    assert torch.equal(folder[0].points[:, :3], torch.from_numpy(rows[:, :3]))
    assert folder.index.intensity_scale == 4
    assert open_data(word_of(folder)).reader.values == folder.reader.values
    table = format_files.columns() | {"y": format_files.columns()["x"]}
    (tmp_path / "0.pcd").write_bytes(format_files.pcd(table=table))
    told = open_data(f"lidar:{tmp_path}?layout=pcd&columns=x,y,z,intensity_0_255,_")
    assert told[0].points[:, 3].tolist() == pytest.approx(table["ring"] / 255)
    with pytest.raises(SceneFolderError, match="expected a name for each of x, y, z, ring, d, got 3"):
        open_data(f"lidar:{tmp_path}?layout=pcd&columns=x,y,z")


@pytest.mark.parametrize("layout", ["pcd", "ply", "npy"])
def test_files_that_name_their_columns_say_what_they_have(tmp_path, layout):
    rng, count = np.random.default_rng(1), format_files.POINTS
    table = {name: rng.normal(0, 9, count).astype(np.float32) for name in ("x", "y", "z", "nx", "ny", "nz")}
    table |= {
        "intensity": rng.integers(0, 256, count).astype(np.uint8),
        "ring": np.arange(count, dtype=np.uint16),
    }
    table |= {name: rng.integers(0, 256, count).astype(np.uint8) for name in ("red", "green", "blue")}
    raw = {"pcd": format_files.pcd, "ply": format_files.ply}
    if layout == "npy":
        rows = np.empty(count, [(name, values.dtype) for name, values in table.items()])
        for name, values in table.items():
            rows[name] = values
        np.save(tmp_path / "0.npy", rows)
    else:
        (tmp_path / f"0.{layout}").write_bytes(raw[layout](table=table))
    folder = open_data(f"lidar:{tmp_path}")
    scene = folder[0]
    assert folder.index.frames[0].lidar.columns == (
        ["x", "y", "z", "intensity_0_255", "ring", "r_0_255", "g_0_255", "b_0_255", "nx", "ny", "nz"]
    )
    expected = np.stack([table[name] for name in "xyz"], -1)
    assert_close(scene.points[:, :3], torch.from_numpy(expected))
    assert_close(scene.points[:, 3], torch.from_numpy(table["intensity"] / np.float32(255)))
    colors = np.stack([table[name] for name in ("red", "green", "blue")], -1) / np.float32(255)
    assert_close(scene.colors, torch.from_numpy(colors))


def test_a_survey_in_map_coordinates_stays_exact(tmp_path):
    raw, expected = format_files.las(form=3)
    (tmp_path / "0.las").write_bytes(raw)
    folder = open_data(f"lidar:{tmp_path}")
    assert folder.index.frames[0].lidar.columns[3:] == [
        "intensity_0_65535",
        "r_0_65535",
        "g_0_65535",
        "b_0_65535",
    ]
    scene = folder[0]
    place = np.stack([expected[name] for name in "xyz"], -1)
    assert place[:, 1].min() > 5.7e6
    relative = (scene.points[:, :3] - scene.points[0, :3]).double().numpy()
    # float32 of ten kilometres; of the map's coordinates it would be half a metre.
    assert np.abs(relative - (place - place[0])).max() < 2e-3
    assert scene.points[:, 3].tolist() == pytest.approx(np.array(expected["intensity"]) / 65535)
    red = torch.tensor(expected["red"]) / 65535
    assert_close(scene.colors[:, 0], red)


def test_intensities_beyond_all_scales_ask_for_one(tmp_path):
    table = {name: np.linspace(1, 9, format_files.POINTS).astype(np.float32) for name in "xyz"}
    table["Intensity"] = np.linspace(0, 1e5, format_files.POINTS).astype(np.float32)
    (tmp_path / "0.pcd").write_bytes(format_files.pcd(table=table))
    with pytest.raises(
        SceneFolderError, match=r"Intensity: expected numbers .* got 100000: \?intensity_scale=100000"
    ):
        open_data(f"lidar:{tmp_path}")
    scene = open_data(f"lidar:{tmp_path}?intensity_scale=100000")[0]
    assert scene.points[:, 3].max() == 1 and scene.points[1, 3] == pytest.approx(1 / 49)


def test_numbers_in_names_count_as_numbers_and_folders_are_scenes(recording):
    (recording / "b" / "c").mkdir(parents=True)
    for name in ("frame2.bin", "frame10.bin"):
        shutil.copy(recording / "9.bin", recording / "b" / "c" / name)
    save_text(recording / "poses.txt", *[numbers(pose[:3]) for pose in POSES])
    save_text(recording / "b/c/poses.txt", *[numbers(pose[:3]) for pose in POSES[:2]])
    folder = open_data(f"lidar:{recording}?poses=poses.txt&rate=10", sweeps=2)
    names = [(frame.scene, frame.frame_id, frame.seconds) for frame in folder.index.frames]
    assert names[:3] == [("", "8", 0.8), ("", "9", 0.9), ("", "10", 1.0)]
    assert names[3:] == [("b/c", "b/c/frame2", 0.0), ("b/c", "b/c/frame10", 0.1)]
    assert [points_of(folder[k]) for k in range(5)] == [
        (100, 100),
        (101, 201),
        (102, 203),
        (101, 101),
        (101, 202),
    ]
    # The second sweep's points seen from the third's pose.
    points = np.fromfile(recording / "9.bin", "<f4").reshape(-1, 4)[:, :3]
    motion = np.linalg.inv(POSES[2]) @ POSES[1]
    expected = points @ motion[:3, :3].T + motion[:3, 3]
    assert_close(folder[2].points[102:, :3], torch.from_numpy(expected).float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("stems", "seconds"),
    [
        (["1305031453.3", "1305031453.25"], [1305031453.3, 1305031453.25]),
        (["315966253660033000", "315966253760033000"], [315966253.660033, 315966253.760033]),
        (
            ["n015__TOP__1532402927647951", "n015__TOP__1532402927698013"],
            [1532402927.647951, 1532402927.698013],
        ),
        (["1305031453123", "1305031453223"], [1305031453.123, 1305031453.223]),
        (["1305031453", "1305031454"], [1305031453, 1305031454]),
        (["0.1", "0.25"], [0.1, 0.25]),
        (["000001", "000002"], None),
        (["a", "1305031453"], None),
    ],
)
def test_names_that_are_times_are_read(stems, seconds):
    found = named_stamps(stems)
    units = {"timestamp_s": 1, "timestamp_us": 1e6, "timestamp_ns": 1e9}
    told = found and [value / units[name] for stamp in found for name, value in stamp.items()]
    assert told == (seconds and pytest.approx(seconds, abs=1e-6))


def test_poses_without_times_need_a_rate(recording):
    save_text(recording / "poses.txt", *[numbers(pose[:3]) for pose in POSES])
    with pytest.raises(
        SceneFolderError, match=r"frame 0 \(8\): timestamp: expected a value because sweeps=2"
    ):
        open_data(f"lidar:{recording}?poses=poses.txt", sweeps=2)
    (recording / "some.json").write_text(json.dumps({"9": POSES[1].tolist()}))
    with pytest.raises(SceneFolderError, match=r"frame 0 \(8\): lidar.ego_to_global: expected a value"):
        open_data(f"lidar:{recording}?poses=some.json&rate=10", sweeps=2)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "p.txt",
            numbers(POSES[0][:3]),
            "poses: expected 3 poses, one for each sweep, got 1: JSON says them by name",
        ),
        ("p.txt", "1 2 3\n" * 3, r"p.txt: expected 12 numbers a line \(KITTI\) or 8 \(TUM: .*, got 3"),
        ("p.txt", "", "p.txt: expected 12 numbers a line .* got 0"),
        (
            "p.txt",
            f"{numbers(POSES[0][:3])}\n{' '.join(['nan'] * 12)}\n",
            "p.txt: line 2: expected 12 finite numbers",
        ),
        (
            "p.txt",
            "0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 0\n",
            "p.txt: pose 1: expected a unit quaternion, got a length of 0",
        ),
        (
            "p.txt",
            "\n".join([" ".join(["2"] * 12)] * 3),
            r"frame 0 \(8\): lidar.ego_to_global: expected an ortho",
        ),
        ("p.json", "[1, 2", "p.json: line 1, column 6: expected JSON"),
        ("p.json", "3", "p.json: expected a list of poses or one by each name, got 3"),
        ("p.json", '{"7.bin": 1}', "p.json: expected poses of sweeps such as 8.bin, got none"),
        ("p.json", "[[[Infinity]], 2, 3]", r"frame 0 \(8\): lidar.ego_to_global"),
        ("p.json", '["a", null, {}]', r"frame 0 \(8\): lidar.ego_to_global"),
        ("../p.txt", None, "p.txt: table: expected a file within the folder"),
        ("none.txt", None, "none.txt: table: expected a readable file, got: nothing"),
    ],
)
def test_what_are_no_poses_is_one_line(recording, name, text, line):
    if text is not None:
        (recording / name).write_text(text)
    with pytest.raises(SceneFolderError, match=line) as caught:
        open_data(f"lidar:{recording}?poses={name}&rate=10")
    assert "\n" not in str(caught.value)


def test_one_list_of_poses_is_not_of_several_folders(recording):
    (recording / "b").mkdir()
    shutil.copy(recording / "9.bin", recording / "b" / "1.bin")
    (recording / "b" / "poses.json").write_text("[]")
    save_text(recording / "all.txt", *[numbers(pose[:3]) for pose in POSES])
    (recording / "a").mkdir()
    shutil.copy(recording / "9.bin", recording / "a" / "1.bin")
    with pytest.raises(
        SceneFolderError, match=r"all.txt: expected poses by the sweeps' names, or a file of poses in"
    ):
        open_data(f"lidar:{recording}/?poses=../{recording.name}/all.txt")


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("1.bin", b"", "expected rows of 4 or 5 numbers .* got 0 bytes"),
        ("1.bin", b"\0" * 1600, "expected rows of 4 or 5 numbers .* got 1600 bytes"),
        ("1.bin", np.full(400, np.nan, "<f4").tobytes(), "expected rows of 4 or 5 numbers"),
        ("1.bin", b"\x93NUMPY" + b" " * 74, "1.bin: expected raw rows without a header, got a .npy file"),
        ("1.pcd", b"VERSION 0.7\nFIELDS x y", "1.pcd: expected a PCD header that ends with DATA, got none"),
        ("1.ply", b"ply\nformat", "1.ply: expected"),
        ("1.las", b"LASF", "1.las: expected a LAS header"),
        ("1.laz", format_files.las()[0].replace(b"LASF", b"LASX"), "1.laz: expected a LAS header"),
        ("1.npy", b"\x93NUMPY\x01\0", "1.npy: expected a header of numpy's"),
        ("1.txt", b"1 2 3", r"expected sweeps \(.bin, .pcd, .ply, .las, .laz, .npy\), got none"),
    ],
)
def test_what_are_no_sweeps_is_one_line(tmp_path, file, content, line):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SceneFolderError, match=line) as caught:
        open_data(f"lidar:{tmp_path}")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_two_kinds_of_sweeps_and_links_that_lead_out_are_one_line(recording, tmp_path_factory):
    (recording / "1.pcd").write_bytes(b"")
    with pytest.raises(SceneFolderError, match=r"of one kind, got 3 bin, 1 pcd: \?layout=bin chooses"):
        open_data(f"lidar:{recording}")
    (recording / "1.pcd").unlink()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    a_sweep().tofile(elsewhere / "0.bin")
    (recording / "11.bin").symlink_to(elsewhere / "0.bin")
    with pytest.raises(SceneFolderError, match=r"11.bin: columns: expected a file within the folder"):
        open_data(f"lidar:{recording}")
    (recording / "11.bin").unlink()
    (recording / "more").symlink_to(elsewhere)
    with pytest.raises(SceneFolderError, match="more: expected a folder within"):
        open_data(f"lidar:{recording}")
    assert len(open_data(f"lidar:{recording}?outside=1")) == 4
