"""Readers of recordings in the formats that data sets are published in, by the name of ``NAME:PATH``."""

from renderpretrain.data.folder.index import FRAMES_JSON
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.readers.argoverse2 import ARGOVERSE2
from renderpretrain.data.readers.colmap import COLMAP
from renderpretrain.data.readers.kitti import KITTI
from renderpretrain.data.readers.lidar import LIDAR
from renderpretrain.data.readers.nerf import NERF
from renderpretrain.data.readers.nuscenes.reader import NUSCENES
from renderpretrain.data.readers.pandaset import PANDASET
from renderpretrain.data.readers.rgbd import RGBD
from renderpretrain.data.readers.s3dis import S3DIS
from renderpretrain.data.readers.scannet import SCANNET
from renderpretrain.data.readers.structured3d import STRUCTURED3D
from renderpretrain.data.readers.sunrgbd import SUNRGBD
from renderpretrain.data.readers.waymo import WAYMO

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        FRAMES_JSON,
        ARGOVERSE2,
        COLMAP,
        KITTI,
        LIDAR,
        NERF,
        NUSCENES,
        PANDASET,
        RGBD,
        S3DIS,
        SCANNET,
        STRUCTURED3D,
        SUNRGBD,
        WAYMO,
    )
}
"""All of them; ``folder`` is the project's own format, ``frames.json``."""
