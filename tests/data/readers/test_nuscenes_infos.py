"""Info files of nuScenes: the published sample, and those written of a small recording in each form."""

import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, inspect_folder, open_data
from renderpretrain.data.readers import READERS
from tests.data.readers.nuscenes_files import CAMERA, KEYS, MOUNTS, T0, Writer, ego, matrix, to_global

NUSCENES = READERS["nuscenes"]
CLASSES = {"vehicle.car": "car", "human.pedestrian.adult": "pedestrian", "vehicle.bus.rigid": "bus"}


def test_the_published_infos_say_what_the_tables_and_frames_json_say(realdata):
    path = realdata / "nuscenes_keyframe"
    infos = open_data(f"nuscenes:{path}?outside=1&infos=../native/mmdet3d_infos/nuscenes_v2.pkl")
    tables, neutral = (open_data(f"{name}:{path}?sensor_origin=0,0,0") for name in ("nuscenes", "folder"))
    one, other, boxes = infos[0], tables[0], neutral[0].boxes
    assert torch.equal(one.points, other.points) and torch.equal(one.images, other.images)
    assert one.timestamp == other.timestamp and one.name == other.name
    # The info file has float32.
    assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world, rtol=0, atol=1e-7)
    assert_close(one.world_to_global, other.world_to_global, rtol=0, atol=1e-6)
    # frames.json keeps the one object of no class.
    kept = [k for k, label in enumerate(boxes.labels) if neutral.class_names[label] != "ignore"]
    assert len(kept) == len(boxes.labels) - 1 == 68
    for name in ("centers", "sizes", "yaws", "velocities"):
        assert torch.equal(getattr(one.boxes, name), getattr(boxes, name)[kept])
    names = [neutral.class_names[label] for label in boxes.labels[kept]]
    assert [infos.class_names[label] for label in one.boxes.labels] == names


def test_labelled_boxes_hold_the_points_that_were_counted(realdata):
    path = realdata / "nuscenes_keyframe"
    scene = open_data(f"nuscenes:{path}?outside=1&infos=../native/mmdet3d_infos/nuscenes_v2.pkl")[0]
    with (realdata / "native" / "mmdet3d_infos" / "nuscenes_v2.pkl").open("rb") as file:
        instances = pickle.load(file)["data_list"][0]["instances"]
    counted = [int(thing["num_lidar_pts"]) for thing in instances if thing["bbox_label_3d"] >= 0]
    inside = []
    for center, size, yaw in zip(scene.boxes.centers, scene.boxes.sizes, scene.boxes.yaws, strict=True):
        to_box = torch.tensor([[yaw.cos(), -yaw.sin()], [yaw.sin(), yaw.cos()]])
        points = scene.points[:, :3] - center
        points[:, :2] = points[:, :2] @ to_box
        inside.append(int((points.abs() <= size / 2).all(-1).sum()))
    assert sum(counted) > 500 and np.abs(np.subtract(inside, counted)).mean() < 1


@pytest.fixture
def drive(tmp_path):
    """A recording of one scene, and what wrote it."""
    return tmp_path, Writer(tmp_path, scenes=("scene-0061",))


def moments():
    """Of each key frame its time and those of nine older sweeps, the newest first, as far as there are."""
    for k in range(KEYS):
        yield 0.5 * k, [0.5 * k - 0.1 * j for j in range(1, 10) if 0.5 * k - 0.1 * j > -0.01]


def stamp_of(seconds):
    return T0 + round(1e6 * seconds)


def sweep_file(seconds):
    folder = "samples" if abs(seconds / 0.5 - round(seconds / 0.5)) < 1e-6 else "sweeps"
    return f"{folder}/LIDAR_TOP/log__LIDAR_TOP__{stamp_of(seconds)}.pcd.bin"


def relative(channel, seconds, at):
    """Where a sensor was in the LiDAR frame of another time."""
    return np.linalg.inv(to_global("LIDAR_TOP", at)) @ to_global(channel, seconds)


def boxes_at(writer, k):
    """Names, and centre, length, width, height, yaw in the LiDAR frame of a key frame's boxes."""
    pose, names, rows = to_global("LIDAR_TOP", 0.5 * k), [], []
    for row in writer.tables["sample_annotation"]:
        if row["sample_token"] == f"scene-0061-{k}":
            name = row["instance_token"].split("-", 2)[2]
            ahead = matrix((0, 0, 0), row["rotation"])[:3, 0] @ pose[:3, :3]
            center = (np.array(row["translation"]) - pose[:3, 3]) @ pose[:3, :3]
            width, length, height = row["size"]
            names.append(CLASSES.get(name, name))
            rows.append([*center, length, width, height, np.arctan2(ahead[1], ahead[0])])
    return names, np.array(rows)


def camera_of(channel, lead, now, intrinsics):
    pose = relative(channel, now - lead, now)
    file = f"./data/nuscenes/samples/{channel}/log__{channel}__{stamp_of(now - lead)}.jpg"
    told = {"data_path": file, "sensor2lidar_rotation": pose[:3, :3], "sensor2lidar_translation": pose[:3, 3]}
    return told | {intrinsics: np.array(CAMERA)}


LEADS = {"CAM_FRONT": 0.035, "CAM_BACK": 0.01}


def version_1(writer, wide_first):
    infos = []
    for k, (now, older) in enumerate(moments()):
        translation, rotation = ego(now)
        names, boxes = boxes_at(writer, k)
        if wide_first:
            boxes = np.c_[boxes[:, :3], boxes[:, [4, 3, 5]], -boxes[:, 6:] - np.pi / 2]
        sweeps = []
        for time in older:
            pose = relative("LIDAR_TOP", time, now)
            told = {"sensor2lidar_rotation": pose[:3, :3], "sensor2lidar_translation": pose[:3, 3]}
            path = f"/somewhere/nuscenes/{sweep_file(time)}"
            sweeps.append({"data_path": path, "timestamp": stamp_of(time), **told})
        info = {"lidar_path": f"./data/nuscenes/{sweep_file(now)}", "token": f"scene-0061-{k}"}
        info |= {"sweeps": sweeps, "timestamp": stamp_of(now)}
        info["lidar2ego_translation"], info["lidar2ego_rotation"] = map(list, MOUNTS["LIDAR_TOP"])
        info["ego2global_translation"], info["ego2global_rotation"] = translation, rotation
        info["cams"] = {name: camera_of(name, lead, now, "cam_intrinsic") for name, lead in LEADS.items()}
        info |= {"gt_boxes": boxes, "gt_names": np.array(names), "gt_velocity": np.zeros((len(names), 2))}
        infos.append(info)
    return {"infos": infos, "metadata": {"version": "v1.0-mini"}}


def version_2(writer):
    infos, numbers = [], {"car": 0, "bus": 3, "pedestrian": 7, "animal": -1}
    for k, (now, older) in enumerate(moments()):
        names, boxes = boxes_at(writer, k)
        points = {
            "lidar_path": sweep_file(now).rpartition("/")[2],
            "lidar2ego": matrix(*MOUNTS["LIDAR_TOP"]).tolist(),
        }
        sweeps = []
        for time in older:
            motion = np.linalg.inv(relative("LIDAR_TOP", time, now)).astype(np.float32)
            told = {"lidar_path": f"./data/{sweep_file(time)}", "lidar2sensor": motion.tolist()}
            sweeps.append({"timestamp": stamp_of(time) / 1e6, "lidar_points": told})
        images = {}
        for name, lead in LEADS.items():
            to_camera = np.linalg.inv(relative(name, now - lead, now)).astype(np.float32)
            images[name] = {"img_path": f"log__{name}__{stamp_of(now - lead)}.jpg", "cam2img": CAMERA}
            images[name]["lidar2cam"] = to_camera.tolist()
        instances = [
            {"bbox_3d": row.tolist(), "bbox_label_3d": numbers[name], "velocity": [0.0, float("nan")]}
            for name, row in zip(names, boxes, strict=True)
        ]
        info = {"token": f"scene-0061-{k}", "timestamp": stamp_of(now) / 1e6, "instances": instances}
        info |= {"ego2global": matrix(*ego(now)).tolist(), "lidar_points": points, "images": images}
        infos.append(info | {"lidar_sweeps": sweeps})
    return {"metainfo": {"categories": numbers}, "data_list": infos}


def openpcdet(writer):
    infos = []
    for k, (now, older) in enumerate(moments()):
        names, boxes = boxes_at(writer, k)
        sweeps = [
            {
                "lidar_path": sweep_file(time),
                "transform_matrix": relative("LIDAR_TOP", time, now),
                "time_lag": now - time,
            }
            for time in older
        ]
        # Too few sweeps are filled up with the last, or with the key frame's own.
        own = {"lidar_path": sweep_file(now), "transform_matrix": None, "time_lag": 0}
        sweeps += (9 - len(sweeps)) * [sweeps[-1] if sweeps else own]
        info = {"lidar_path": sweep_file(now), "token": f"scene-0061-{k}", "sweeps": sweeps}
        info |= {"ref_from_car": np.linalg.inv(matrix(*MOUNTS["LIDAR_TOP"]))}
        info |= {"car_from_global": np.linalg.inv(matrix(*ego(now))), "timestamp": 1e-6 * stamp_of(now)}
        names = ["ignore" if name == "animal" else name for name in names]
        info |= {"gt_boxes": np.c_[boxes, np.zeros((len(boxes), 2))], "gt_names": np.array(names)}
        info["cams"] = {name: camera_of(name, lead, now, "camera_intrinsics") for name, lead in LEADS.items()}
        infos.append(info)
    return infos


FORMS = {
    "mmdetection3d 0.x": lambda writer: version_1(writer, True),
    "mmdetection3d 1.0": lambda writer: version_1(writer, False),
    "mmdetection3d 1.1": version_2,
    "OpenPCDet": openpcdet,
}


@pytest.mark.parametrize("form", FORMS)
def test_infos_of_every_form_say_what_the_tables_say(drive, form):
    path, writer = drive
    (path / "infos.pkl").write_bytes(pickle.dumps(FORMS[form](writer)))
    infos = open_data(f"nuscenes:{path}?infos=infos.pkl", sweeps=10)
    tables = open_data(f"nuscenes:{path}?labels=none", sweeps=10)
    assert len(infos) == len(tables) == KEYS and infos.class_names == tables.class_names
    assert infos.camera_names == tables.camera_names
    for k in range(KEYS):
        one, other = infos[k], tables[k]
        # A float32 of a motion of some metres is off by 1e-6 times the range; 1.1 has it twice.
        assert_close(one.points, other.points, rtol=0, atol=2e-4)
        assert torch.equal(one.of_key_sweep, other.of_key_sweep) and torch.equal(one.images, other.images)
        assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world, rtol=0, atol=3e-6)
        for name in ("centers", "sizes", "labels"):
            assert_close(getattr(one.boxes, name), getattr(other.boxes, name), rtol=0, atol=1e-5)
        assert_close(one.boxes.yaws.sin(), other.boxes.yaws.sin(), rtol=0, atol=1e-5)
        assert_close(one.boxes.yaws.cos(), other.boxes.yaws.cos(), rtol=0, atol=1e-5)
    raw = open_data(f"nuscenes:{path}?infos=infos.pkl&classes=raw")
    assert ("animal" in raw.class_names) == form.startswith("mmdetection3d")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"timestamp": "now"}, r"infos.pkl: info 1: expected an info of nuScenes, got: "),
        (
            {"lidar2ego_rotation": [1, 0]},
            r"info 1: expected an info of nuScenes, got: numbers of shape \(2,\)",
        ),
        (
            {"gt_boxes": np.zeros((2, 5))},
            r"info 1: expected an info of nuScenes, got: numbers of shape \(2, 5\)",
        ),
        ({"cams": {"CAM_FRONT": {}}}, r"info 1: expected cam_intrinsic, got nothing"),
        ({"lidar_path": 7}, r"info 1: expected an info of nuScenes, got: 7 in the place of a path"),
        ({"lidar_path": "samples/../../x.bin"}, r"frame 1 .*lidar.file: expected a path within the folder"),
        (
            {"ego2global_translation": [np.inf, 0, 0]},
            r"info 1: expected an info of nuScenes, got: numbers that are not finite",
        ),
        (None, r"info 1: expected an info of nuScenes, got: "),
    ],
)
def test_a_broken_info_is_one_line_and_can_be_skipped(drive, change, line):
    path, writer = drive
    content = version_1(writer, False)
    content["infos"][1] = None if change is None else content["infos"][1] | change
    (path / "infos.pkl").write_bytes(pickle.dumps(content))
    reader = NUSCENES.told(infos="infos.pkl")
    with pytest.raises(SceneFolderError, match=line) as caught:
        SceneFolder(path, reader=reader)
    assert "\n" not in str(caught.value)
    facts = inspect_folder(path, reader=reader)
    assert [bool(frame.faults) for frame in facts] == [False, True, False]
    assert len(SceneFolder(path, reader=reader, skip=[1])) == KEYS - 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", r"infos.pkl: expected infos of nuScenes, got"),
        (pickle.dumps(version_1)[:-1], r"infos.pkl: expected infos of nuScenes, got"),
        (pickle.dumps(print), r"infos.pkl: expected infos of nuScenes, got .*print"),
        (pickle.dumps({"infos": []}), r"infos.pkl: expected a list of infos, got list"),
        (pickle.dumps(5), r"infos.pkl: expected a list of infos, got int"),
    ],
)
def test_what_is_no_info_file_is_one_line(drive, content, line):
    path, _ = drive
    (path / "infos.pkl").write_bytes(content)
    with pytest.raises(SceneFolderError, match=line) as caught:
        open_data(f"nuscenes:{path}?infos=infos.pkl")
    assert "\n" not in str(caught.value)


def test_infos_stand_for_tables(drive):
    path, _ = drive
    with pytest.raises(ValueError, match=r"data: infos: expected the name of an info file, ending in .pkl"):
        open_data(f"nuscenes:{path}?infos=infos.json")
    with pytest.raises(
        SceneFolderError, match="infos: expected no version, split or labels beside, got some"
    ):
        open_data(f"nuscenes:{path}?infos=infos.pkl&split=train")
    with pytest.raises(SceneFolderError, match=r"infos.pkl: infos: expected a readable file, got: nothing"):
        open_data(f"nuscenes:{path}?infos=infos.pkl")
