"""A small recording in the layout of nuScenes: an ego vehicle that turns past a wall, two scenes of it."""

import json

import numpy as np
from PIL import Image

T0 = 1_532_402_927_647_951
KEYS, BETWEEN = 3, 4
"""Key frames of a scene, 0.5 s apart, and sweeps between two of them."""

CAMERA = [[60.0, 0, 39.5], [0, 60.0, 29.5], [0, 0, 1]]
SIZE = (60, 80)
WALL = np.stack(np.meshgrid(np.linspace(988, 1012, 25), [2030.0], np.linspace(0, 4, 9)), -1).reshape(-1, 3)
"""Points of a wall in the global frame, ahead of where the vehicle starts."""

NEAR = np.array([[0.3, -0.6, -0.8], [-0.7, 0.5, -0.8]])
"""Points of the own vehicle in the LiDAR frame."""

MOUNTS = {
    "LIDAR_TOP": ((0.94, 0.0, 1.84), (0.7077955, -0.0064922, 0.0106462, -0.7063073)),
    "CAM_FRONT": ((1.7, 0.016, 1.51), (0.4998015, -0.5030316, 0.4997798, -0.4973708)),
    "CAM_BACK": ((0.03, 0.0, 1.5), (0.5, -0.5, -0.5, 0.5)),
    "RADAR_FRONT": ((3.4, 0.0, 0.5), (1.0, 0.0, 0.0, 0.0)),
}

CATEGORIES = {
    "noise": 0,
    "human.pedestrian.adult": 2,
    "animal": 1,
    "vehicle.car": 17,
    "vehicle.bus.rigid": 16,
    "vehicle.ego": 31,
    "static.manmade": 28,
}


def matrix(translation, quaternion):
    """4x4 of a quaternion w, x, y, z by its action on the axes, and a translation."""
    w, v = quaternion[0], np.array(quaternion[1:])
    scale = np.linalg.norm(quaternion)
    w, v, pose = w / scale, v / scale, np.eye(4)
    for k, axis in enumerate(np.eye(3)):
        pose[:3, k] = axis + 2 * np.cross(v, np.cross(v, axis) + w * axis)
    pose[:3, 3] = translation
    return pose


def ego(seconds):
    """Translation and quaternion of the vehicle: it drives at 8 m/s, turns, and nods a little."""
    turn = np.pi / 2 + 0.4 * seconds
    heading = np.array([np.cos(turn / 2), 0.01 * np.sin(3 * seconds), 0.01, np.sin(turn / 2)])
    place = [1000 + 20 * (np.sin(turn) - 1), 2000 + 8 * seconds, 0.1 * seconds]
    return place, heading.tolist()


def to_global(channel, seconds):
    """Where a sensor is."""
    return matrix(*ego(seconds)) @ matrix(*MOUNTS[channel])


class Writer:
    """Writes the tables and the files; what it has written is in ``tables``."""

    def __init__(self, path, version="v1.0-mini", scenes=("scene-0061", "scene-0103")):
        self.path, self.version = path, version
        names = "scene sample sample_data ego_pose calibrated_sensor sensor category instance"
        self.tables = {name: [] for name in (*names.split(), "sample_annotation", "lidarseg", "panoptic")}
        for name, index in CATEGORIES.items():
            self.add("category", token=f"c-{name}", name=name, index=index, description="a {brace}")
        for channel, (translation, rotation) in MOUNTS.items():
            kind = "camera" if channel.startswith("CAM") else "lidar"
            self.add("sensor", token=f"s-{channel}", channel=channel, modality=kind)
            row = {"translation": list(translation), "rotation": list(rotation)}
            row["camera_intrinsic"] = CAMERA if kind == "camera" else []
            self.add("calibrated_sensor", token=f"m-{channel}", sensor_token=f"s-{channel}", **row)
        for folder in ("lidarseg", "panoptic"):
            (path / folder / version).mkdir(parents=True)
        for number, name in enumerate(scenes):
            self.scene(number, name)
        self.save()

    def add(self, table, **row):
        """A row of a table."""
        self.tables[table].append(row)

    def scene(self, number, name):
        """A scene of which the key frames are listed in disorder."""
        self.add("scene", token=name, name=name, log_token="log", description='"{}"')
        start = 100.0 * number
        samples = [f"{name}-{k}" for k in range(KEYS)]
        for k in (1, 0, 2):
            stamp = T0 + round(1e6 * (start + 0.5 * k))
            self.add("sample", token=samples[k], timestamp=stamp, scene_token=name)
        for k in range(KEYS):
            for j in range(-BETWEEN if k else 0, 1):
                self.sweep(samples[k], start, 0.5 * k + 0.1 * j, key=j == 0)
            for channel, lead in (("CAM_FRONT", 0.035), ("CAM_BACK", 0.01), ("RADAR_FRONT", 0.02)):
                self.record(samples[k], channel, start, 0.5 * k - lead, True, "jpg")
                self.record(samples[k], channel, start, 0.5 * k - lead - 0.1, False, "jpg")
        self.annotate(name, samples)

    def record(self, sample, channel, start, seconds, key, end):
        """A row of the sample data, its ego pose, and the picture of a camera; gives token and file."""
        stamp = T0 + round(1e6 * (start + seconds))
        token, folder = f"{channel}-{stamp}", "samples" if key else "sweeps"
        file = f"{folder}/{channel}/log__{channel}__{stamp}.{end}"
        translation, rotation = ego(seconds)
        self.add("ego_pose", token=f"p-{token}", timestamp=stamp, rotation=rotation, translation=translation)
        height, width = SIZE if channel.startswith("CAM") else (0, 0)
        row = {"sample_token": sample, "ego_pose_token": f"p-{token}", "is_key_frame": key, "filename": file}
        row |= {"calibrated_sensor_token": f"m-{channel}", "height": height, "width": width}
        self.add("sample_data", token=token, timestamp=stamp, fileformat=end, **row)
        (self.path / file).parent.mkdir(parents=True, exist_ok=True)
        if key and channel.startswith("CAM"):
            shades = np.arange(60 * 80 * 3).reshape(60, 80, 3) % 251
            Image.fromarray(shades.astype(np.uint8)).save(self.path / file)
        return token, self.path / file

    def sweep(self, sample, start, seconds, key):
        """A sweep of the wall and the own vehicle, and the labels of its points."""
        token, file = self.record(sample, "LIDAR_TOP", start, seconds, key, "pcd.bin")
        pose = to_global("LIDAR_TOP", seconds)
        points = np.concatenate([(WALL - pose[:3, 3]) @ pose[:3, :3], NEAR])
        rows = np.c_[points, np.arange(len(points)) % 256, np.arange(len(points)) % 32]
        rows.astype(np.float32).tofile(file)
        if key:
            numbers = np.r_[np.full(len(WALL), CATEGORIES["static.manmade"]), [CATEGORIES["vehicle.ego"], 0]]
            for kind, end in (("lidarseg", "bin"), ("panoptic", "npz")):
                name = f"{kind}/{self.version}/{token}_{kind}.{end}"
                self.add(kind, token=token, sample_data_token=token, filename=name)
                if end == "bin":
                    numbers.astype(np.uint8).tofile(self.path / name)
                else:
                    np.savez_compressed(self.path / name, data=(1000 * numbers + 7).astype(np.uint16))

    def annotate(self, name, samples):
        """A car that speeds up, a pedestrian seen once, an animal, and a bus seen first and last."""
        tracks = {
            "vehicle.car": [(0, 0.0), (1, 2.0), (2, 6.0)],
            "human.pedestrian.adult": [(1, 0.0)],
            "animal": [(0, 0.0), (1, 1.0)],
            "vehicle.bus.rigid": [(0, 0.0), (2, 3.0)],
        }
        for number, (category, moments) in enumerate(tracks.items()):
            thing = f"{name}-{category}"
            self.add("instance", token=thing, category_token=f"c-{category}")
            for k, way in moments:
                half = 0.3 + number
                row = {"rotation": [np.cos(half), 0.0, 0.0, np.sin(half)], "size": [1.8, 4.5, 1.6]}
                row["translation"] = [1005.0 + 3 * number + way, 2020.0 - way, 0.9]
                row |= {"sample_token": samples[k], "instance_token": thing, "num_lidar_pts": k}
                self.add("sample_annotation", token=f"{thing}-{k}", **row)

    def save(self, **changed):
        """Write the tables, some of them with another content."""
        (self.path / self.version).mkdir(exist_ok=True)
        for name, rows in (self.tables | changed).items():
            text = rows if isinstance(rows, str) else json.dumps(rows, indent=0)
            (self.path / self.version / f"{name}.json").write_text(text)
