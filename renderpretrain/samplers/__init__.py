"""Which rays to render, and where along them to look."""

from renderpretrain.samplers.along import (
    Disparity,
    DistanceField,
    Even,
    NearSurface,
    NeuSImportance,
    Occupied,
    RaySampler,
    Stratified,
)
from renderpretrain.samplers.curved import CurvedReturns, Preference
from renderpretrain.samplers.free_space import seen_through
from renderpretrain.samplers.intervals import (
    disparity_positions,
    near_surface_positions,
    occupied_samples,
    stratified_positions,
    uniform_positions,
)
from renderpretrain.samplers.misses import OpenSky, is_of_spinning_sensor
from renderpretrain.samplers.patches import PatchRays
from renderpretrain.samplers.pixels import (
    depth_pictures,
    draw_pixels,
    nearest_per_pixel,
    pixel_candidates,
    pixel_grid,
    read_pixels,
    z_buffer,
)
from renderpretrain.samplers.planes import LocalPlanes, local_planes
from renderpretrain.samplers.rays import (
    LidarBeams,
    LidarGuidedRays,
    PixelRays,
    RayTargets,
    add_depth,
    in_range,
    read_returns,
)
from renderpretrain.samplers.surroundings import SURROUNDINGS, surroundings

__all__ = [
    "SURROUNDINGS",
    "CurvedReturns",
    "Disparity",
    "DistanceField",
    "Even",
    "LidarBeams",
    "LidarGuidedRays",
    "LocalPlanes",
    "NearSurface",
    "NeuSImportance",
    "Occupied",
    "OpenSky",
    "PatchRays",
    "PixelRays",
    "Preference",
    "RaySampler",
    "RayTargets",
    "Stratified",
    "add_depth",
    "depth_pictures",
    "disparity_positions",
    "draw_pixels",
    "in_range",
    "is_of_spinning_sensor",
    "local_planes",
    "near_surface_positions",
    "nearest_per_pixel",
    "occupied_samples",
    "pixel_candidates",
    "pixel_grid",
    "read_pixels",
    "read_returns",
    "seen_through",
    "stratified_positions",
    "surroundings",
    "uniform_positions",
    "z_buffer",
]
