"""The nouns: voxel grids, cameras, rays, points, views, and the rigid motions between frames."""

from renderpretrain.geometry.cameras import Cameras
from renderpretrain.geometry.poses import invert_pose, pose_from_vectors, pose_from_yaw, rotate, transform
from renderpretrain.geometry.rays import Rays, RaySamples
from renderpretrain.geometry.refinement import PoseRefinement
from renderpretrain.geometry.sensors import Points, Sensors, Views
from renderpretrain.geometry.voxel_grid import VoxelGrid

__all__ = [
    "Cameras",
    "Points",
    "PoseRefinement",
    "RaySamples",
    "Rays",
    "Sensors",
    "Views",
    "VoxelGrid",
    "invert_pose",
    "pose_from_vectors",
    "pose_from_yaw",
    "rotate",
    "transform",
]
