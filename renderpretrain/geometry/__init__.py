"""Where things are: voxel grids, cameras, rays, and the rigid motions between frames."""

from renderpretrain.geometry.cameras import Cameras
from renderpretrain.geometry.poses import invert_pose, pose_from_vectors, pose_from_yaw, rotate, transform
from renderpretrain.geometry.rays import Rays, RaySamples
from renderpretrain.geometry.refinement import PoseRefinement
from renderpretrain.geometry.voxel_grid import VoxelGrid

__all__ = [
    "Cameras",
    "PoseRefinement",
    "RaySamples",
    "Rays",
    "VoxelGrid",
    "invert_pose",
    "pose_from_vectors",
    "pose_from_yaw",
    "rotate",
    "transform",
]
