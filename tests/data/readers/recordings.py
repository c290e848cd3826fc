"""A small whole recording for every reader, as its data set has it: tests damage them."""

import pickle

import numpy as np
from PIL import Image

from renderpretrain.data import open_data
from renderpretrain.data.shards.writing import Preparation, prepare_recording
from tests.data import format_files
from tests.data.readers import (
    test_colmap,
    test_kitti_infos,
    test_kitti_raw,
    test_lidar,
    test_nerf,
    test_nuscenes_infos,
    test_rgbd,
    test_s3dis,
    test_scannet,
    test_semantickitti,
    test_structured3d,
    test_sunrgbd,
)
from tests.data.readers.kitti_files import numbers, save_picture, save_sweep, save_text, turn
from tests.data.readers.nuscenes_files import Writer
from tests.data.readers.posed import depth_image, write_json
from tests.data.scene_folders import write_street
from tests.data.test_folder_fuzz import full_room, full_street

POINTS = np.random.default_rng(0).uniform([5, -3, -1], [9, 3, 1], (20, 3))
"""Points ahead of a vehicle, metres."""

QUATERNION = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")


def poses_of(count):
    """Columns of a vehicle that drives along x."""
    rows = [[1.0, 0, 0, 0, 10.0 + k, 2.0, 0.5] for k in range(count)]
    return {name: [row[k] for row in rows] for k, name in enumerate(QUATERNION)}


def write_argoverse2(path):
    """A log of two sweeps with a camera and boxes."""
    import pyarrow
    from pyarrow import feather

    def save(name, **columns):
        (log / name).parent.mkdir(parents=True, exist_ok=True)
        feather.write_feather(pyarrow.table(columns), log / f"{name}.feather")

    log, stamps = path / "val" / "log-a", [10**18, 10**18 + 10**8]
    save("city_SE3_egovehicle", timestamp_ns=stamps, **poses_of(2))
    names = ["ring_front_center", "up_lidar", "down_lidar"]
    save("calibration/egovehicle_SE3_sensor", sensor_name=names, **poses_of(3))
    lens = {"fx_px": 16.0, "fy_px": 16.0, "cx_px": 7.5, "cy_px": 5.5, "k1": 0.1, "k2": 0.0, "k3": 0.0}
    lens |= {"height_px": 12, "width_px": 16}
    lens = {name: [value] for name, value in lens.items()}
    save("calibration/intrinsics", sensor_name=names[:1], **lens)
    sizes = {"length_m": [4.0, 4.0], "width_m": [2.0, 2.0], "height_m": [1.5, 1.5]}
    save("annotations", timestamp_ns=stamps, category=["BUS", "DOG"], **sizes, **poses_of(2))
    x, y, z = POINTS.astype(np.float16).T
    for stamp in stamps:
        of_beams = {"intensity": np.arange(20, dtype=np.uint8), "laser_number": np.arange(20, dtype=np.uint8)}
        save(f"sensors/lidar/{stamp}", x=x, y=y, z=z, **of_beams)
        save_picture(log / f"sensors/cameras/ring_front_center/{stamp}.jpg")


def write_pandaset(path):
    """A sequence of two frames with a camera, classes and boxes."""
    base = path / "002"
    frame = {"position": {"x": 1.0, "y": 2.0, "z": 3.0}, "heading": {"w": 1.0, "x": 0.0, "y": 0.0, "z": 0.0}}
    write_json(base / "lidar/poses.json", [frame] * 2)
    write_json(base / "lidar/timestamps.json", [0.0, 0.1])
    write_json(base / "camera/front_camera/poses.json", [frame] * 2)
    write_json(base / "camera/front_camera/intrinsics.json", {"fx": 16.0, "fy": 16.0, "cx": 7.5, "cy": 5.5})
    write_json(base / "annotations/semseg/classes.json", {"1": "Road", "2": "Car"})
    x, y, z = POINTS.T
    points = {"x": x, "y": y, "z": z, "i": np.arange(20.0), "t": np.zeros(20), "d": np.zeros(20, np.int64)}
    boxes = {"position.x": [5.0, 6], "position.y": [0.0, 1], "position.z": [0.0, 0]}
    boxes |= {"dimensions.x": [2.0, 2], "dimensions.y": [4.0, 4], "dimensions.z": [1.5, 2], "yaw": [0.1, 3]}
    boxes = {name: np.array(values) for name, values in boxes.items()} | {
        "cuboids.sensor_id": np.array([0, 1]),
        "label": np.array(["Car", "Bus"], object),
        "cuboids.sibling_id": np.array(["-", "b"], object),
    }
    tables = {"lidar": points, "annotations/cuboids": boxes}
    tables["annotations/semseg"] = {"class": np.arange(20) % 3}
    for folder, table in tables.items():
        (base / folder).mkdir(parents=True, exist_ok=True)
        for k in range(2):
            raw = format_files.gzip_of(format_files.data_frame(table))
            (base / folder / f"{k:02}.pkl.gz").write_bytes(raw)
    for k in range(2):
        save_picture(base / f"camera/front_camera/{k:02}.jpg")


def write_waymo(path):
    """Two frames of a segment with two cameras."""
    from tests.data.readers.test_waymo import write_segment

    write_segment(path)


def write_object(path):
    """Two frames of KITTI's object benchmark with a camera, labels, a list and infos of them."""
    base = path / "training"
    projection = numbers([[16, 0, 7.5, 0], [0, 16, 5.5, 0], [0, 0, 1, 0]])
    ahead = numbers(np.eye(4)[[1, 2, 0]] * [[-1], [-1], [1]])
    for k in range(2):
        save_sweep(base / f"velodyne/{k:06}.bin", POINTS)
        save_picture(base / f"image_2/{k:06}.png")
        lines = f"P2: {projection}", f"R0_rect: {numbers(np.eye(3))}", f"Tr_velo_to_cam: {ahead}"
        save_text(base / f"calib/{k:06}.txt", *lines)
        boxes = "Car 0 0 -1.5 1 2 3 4 1.5 1.6 4.0 1.0 1.5 20.0 0.1", "DontCare -1 -1 -10 1 2 3 4" + " -1" * 7
        save_text(base / f"label_2/{k:06}.txt", *boxes)
    save_text(path / "ImageSets/val.txt", "000001")
    info = test_kitti_infos.an_info()
    other = {**info, "image": {**info["image"], "image_idx": "000001"}}
    (path / "infos.pkl").write_bytes(pickle.dumps([info, other | {"point_cloud": {"num_features": 4}}]))


def write_sweeps(path):
    """Three raw sweeps with poses and times."""
    for k, name in enumerate(("8", "9", "10")):
        test_lidar.a_sweep(count=100 + k).tofile(path / f"{name}.bin")
    save_text(path / "poses.txt", *[numbers(pose[:3]) for pose in test_lidar.POSES])
    save_text(path / "tum.txt", *[f"{k / 10} {k} 0 0 0 0 0 1" for k in range(3)])
    write_json(path / "poses.json", {str(8 + k): pose.tolist() for k, pose in enumerate(test_lidar.POSES)})


def write_clouds(path):
    """A sweep in each of the formats that say what they hold."""
    table = format_files.columns()
    table["y"] = table["x"] * np.float32(0.5)
    for form in ("ascii", "binary", "binary_compressed"):
        (path / f"{form}.pcd").write_bytes(format_files.pcd(form, table))
    for form in ("ascii", "binary_little_endian"):
        (path / f"{form}.ply").write_bytes(format_files.ply(form, table))
    (path / "0.las").write_bytes(format_files.las()[0])
    np.save(path / "0.npy", test_lidar.a_sweep(count=50))


def write_scans(path):
    """ScanNet's room as it is exported, with classes, and posed images by infos alone."""
    room = test_scannet.write_exported(path, frames=2)
    for k in range(2):
        depth_image(room / f"label-filt/{k}.png", np.full((96, 129), 7))
    text = "id\tcategory\tnyu40id\n7\tshower\t28\n1163\tobject\t40\n"
    (path / "scannetv2-labels.combined.tsv").write_text(text)
    posed = path / "posed_images/scene0001_00"
    for k in range(2):
        save_picture(posed / f"{k:05}.jpg", (96, 129))
        depth_image(posed / f"{k:05}.png", test_scannet.seen_depth(np.eye(4)))
    names = [f"posed_images/scene0001_00/{k:05}.jpg" for k in range(2)]
    intrinsics = test_scannet.four(test_scannet.COLOR)
    info = {"img_paths": names, "intrinsics": intrinsics, "extrinsics": [np.eye(4)] * 2}
    (path / "scannet_infos.pkl").write_bytes(pickle.dumps([info]))


def write_area(write):
    """A room of S3DIS's with its points in a form and two photographs."""

    def written(path):
        write(path / "Area_1/office_1", 0.5)
        test_s3dis.write_photographs(path / "area_1", "office_1_1", views=2)

    return written


def write_meshed(path):
    """ScanNet's room with its mesh and classes."""
    test_scannet.write_mesh(test_scannet.write_exported(path, frames=2), step=0.2)


def write_views(path):
    """Two views of SUN RGB-D's."""
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / "c.png")
    depth = np.full((12, 16), 1500, np.uint16)
    for place in ("a/view1", "b/c/view2"):
        test_sunrgbd.write_view(path / place, path / "c.png", depth, test_sunrgbd.INTRINSICS, np.eye(3))
    (path / "c.png").unlink()


def write_neighbours(path):
    """Photographs with depth images, lenses of their own and a fisheye."""
    lens = {"k1": 0.1, "k2": 0.0, "p1": 0.0, "p2": 0.0, "depth_unit_scale_factor": 0.001}
    content = test_nerf.write(path, 3, **lens)
    content["frames"][1] |= {"fl_x": 20, "k1": 0.2, "depth_file_path": "depth/1.png"}
    content["frames"][2] |= {"camera_model": "OPENCV_FISHEYE", "k3": 0.3, "k4": 0.4}
    depth_image(path / "depth/1.png", np.full((12, 16), 1500))
    write_json(path / "transforms.json", content)


def write_infos(form):
    """Tables of nuScenes with the infos of a form beside."""

    def write(path):
        writer = Writer(path, scenes=("scene-0061",))
        (path / "infos.pkl").write_bytes(pickle.dumps(test_nuscenes_infos.FORMS[form](writer)))

    return write


def write_frames(write):
    """A scene folder."""

    def written(path):
        write_json(path / "frames.json", write(path))

    return written


def write_older(path):
    """A street whose frames name sweeps between them."""
    content = write_street(path)
    for k, frame in enumerate(content["frames"]):
        lidar, pose = frame["lidar"], turn(yaw=0.1 * k, at=(k, 0, 0)).tolist()
        lidar |= {"ego_to_global": pose}
        frame |= {"timestamp_s": 0.1 * k, "scene": "s"}
        frame["sweeps"] = [{"file": f"{1 - k}.bin", "ego_to_global": pose, "timestamp_s": 0.1 * k - 0.05}]
    return content


def write_shards(path):
    """Two tar files of a scene folder, which lies elsewhere."""
    source = path.parent / "source"
    source.mkdir()
    write_json(source / "frames.json", full_street(source))
    word = f"folder:{source}"
    prepare_recording(open_data(word), Preparation(path, word, packed=True, size=1))


RECORDINGS = {
    "argoverse2": (write_argoverse2, "argoverse2:{}"),
    "colmap text": (lambda path: test_colmap.write(path, points=20), "colmap:{}"),
    "colmap binary": (lambda path: test_colmap.write(path, ".bin", points=20), "colmap:{}"),
    "folder street": (write_frames(full_street), "folder:{}"),
    "folder room": (write_frames(full_room), "folder:{}"),
    "folder older": (write_frames(write_older), "folder:{}"),
    "kitti object": (write_object, "kitti:{}"),
    "kitti split": (write_object, "kitti:{}?split=val"),
    "kitti infos": (write_object, "kitti:{}?infos=infos.pkl"),
    "kitti raw": (test_kitti_raw.write_drive, "kitti:{}"),
    "kitti odometry": (test_semantickitti.write_sequences, "kitti:{}"),
    "lidar rows": (write_sweeps, "lidar:{}?poses=poses.txt&rate=10"),
    "lidar timed poses": (write_sweeps, "lidar:{}?poses=tum.txt"),
    "lidar named poses": (write_sweeps, "lidar:{}?poses=poses.json&rate=10"),
    "lidar pcd": (write_clouds, "lidar:{}?layout=pcd"),
    "lidar ply": (write_clouds, "lidar:{}?layout=ply"),
    "lidar las": (write_clouds, "lidar:{}?layout=las"),
    "lidar npy": (write_clouds, "lidar:{}?layout=npy"),
    "nerf": (write_neighbours, "nerf:{}"),
    "nuscenes": (lambda path: Writer(path, scenes=("scene-0061",)), "nuscenes:{}"),
    "nuscenes panoptic": (lambda path: Writer(path, scenes=("scene-0061",)), "nuscenes:{}?labels=panoptic"),
    **{
        f"nuscenes {form}": (write_infos(form), "nuscenes:{}?infos=infos.pkl")
        for form in test_nuscenes_infos.FORMS
    },
    "pandaset": (write_pandaset, "pandaset:{}"),
    "rgbd 7-scenes": (lambda path: test_rgbd.write_seven(path, 2), "rgbd:{}"),
    "rgbd tum": (test_rgbd.write_tum, "rgbd:{}"),
    "scannet": (write_scans, "scannet:{}"),
    "s3dis text": (write_area(test_s3dis.write_points), "s3dis:{}"),
    "s3dis arrays": (write_area(test_s3dis.write_arrays), "s3dis:{}"),
    "scannet mesh": (write_meshed, "scannet:{}"),
    "scannet sens": (lambda path: test_scannet.write_sens(path, frames=2), "scannet:{}"),
    "shards": (write_shards, "shards:{}"),
    "structured3d": (lambda path: test_structured3d.write_house(path, views=2), "structured3d:{}"),
    "sunrgbd": (write_views, "sunrgbd:{}"),
    "waymo": (write_waymo, "waymo:{}"),
}
"""How each is written into an empty folder, and the word that opens it."""

NEED_ARROW = ("argoverse2", "waymo")
"""Those that the extra ``av2`` writes and reads."""
