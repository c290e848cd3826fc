"""A moment as it was recorded: points, cameras with their pictures, boxes, and where the sensor went."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from renderpretrain.data.drive import up_direction
from renderpretrain.data.scene import Boxes, Scene
from renderpretrain.geometry import VoxelGrid
from renderpretrain.viewer.contents import (
    Cells,
    Cloud,
    Contents,
    Layer,
    Lines,
    PicturedCamera,
    pictured_camera,
    rgb_bytes,
    value_colors,
)
from renderpretrain.viz.colors import DEPTH_STOPS, class_colors, depth_colors

REACH = (0.05, 0.95)
"""Quantiles of the points along x and y between which everything lies that is looked at first."""

POINT_SHARE = 1 / 400
"""A point's size by the reach of a scene."""

NOTHING = (60, 60, 66)
"""Of points without a class, and of those that no camera sees."""

BEHIND, ABOVE, AHEAD = 0.5, 0.36, 0.35
"""By the reach of a scene: how far behind and above the first camera one looks from, and how far ahead."""

FLAT = 0.1
"""Directions whose part in the plane is shorter do not say what is ahead (metres, or of a unit vector)."""

CORNERS = torch.tensor(
    [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], dtype=torch.float32
)
"""Of a box around the origin with sides of length 1."""

EDGES = tuple((a, b) for a in range(8) for b in range(a + 1, 8) if (CORNERS[a] != CORNERS[b]).sum() == 1)
"""Corners that an edge of a box joins."""


def recording_contents(scene: Scene, track: Float[Tensor, "T 3"], *, title: str) -> Contents:
    """All that a recording holds of a moment; layers of which it has nothing are left out.

    Args:
        scene: The moment.
        track: Where the sensor was in the frames of its recording, in the scene's world.
        title: What the scene is called.
    """
    reach = reach_of(scene)
    eye, target = first_look(scene, track, reach)
    layers = []
    if len(scene.points):
        layers.append(Layer("points", (point_cloud(scene, reach),)))
    if scene.cameras is not None and scene.images is not None:
        layers.append(Layer("cameras", tuple(scene_cameras(scene))))
    if scene.boxes is not None and len(scene.boxes.centers):
        layers.append(Layer("boxes", (box_lines(scene.boxes),)))
    if len(track) > 1:
        layers.append(Layer("drive", (track_lines(track),)))
    if scene.truth is not None:
        cells = class_cells(scene.truth.occupancy, scene.truth.grid)
        layers.append(Layer("true occupancy", (cells,), shown=False))
    remarks = () if layers else ("the scene has no points, no cameras and no boxes",)
    return Contents(title, tuple(layers), up_direction(scene), eye, target, reach, remarks)


def reach_of(scene: Scene) -> float:
    """How far nearly all points reach along x or y, metres; of a scene without any, ten."""
    places = scene.points[:, :3].cpu()
    if not len(places):
        return 10.0
    ordered = places.sort(0).values
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in REACH)
    return max(float((high - low)[:2].max()) / 2, 1.0)


def first_look(
    scene: Scene, track: Float[Tensor, "T 3"], reach: float
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Where to look from at first, and at what: from behind and above the first camera to where it looks.

    Without cameras from behind the sensor along its drive; where it stood still, along an axis of the world.

    Args:
        scene: The moment.
        track: Where the sensor was in the frames of its recording.
        reach: How far the scene reaches, metres.
    """
    up, start = up_direction(scene), scene.lidar_origin.cpu()
    wishes = [_driven(track.cpu(), start), torch.eye(3)[up.abs().argmin()]]
    if scene.cameras is not None and scene.cameras_there:
        pose = scene.cameras.camera_to_world[scene.cameras_there[0]].cpu()
        start = pose[:3, 3]
        wishes = [pose[:3, 2], -pose[:3, 1], *wishes]  # of a camera that looks down, where its top is
    level = (wish - (wish @ up) * up for wish in wishes)
    ahead = next(way / way.norm() for way in level if way.norm() > FLAT)
    return start + reach * (ABOVE * up - BEHIND * ahead), start + reach * AHEAD * ahead


def _driven(track: Float[Tensor, "T 3"], place: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """Which way the sensor went by a place, metres from the place before to the one after."""
    if len(track) < 2:
        return torch.zeros(3)
    k = int((track - place).norm(dim=1).argmin())
    return track[min(k + 1, len(track) - 1)] - track[max(k - 1, 0)]


def point_cloud(scene: Scene, reach: float) -> Cloud:
    """The points, coloured by their height, intensity and distance, and what else is known of them."""
    points = scene.points.cpu().float()
    distance = (points[:, :3] - scene.lidar_origin.cpu()).norm(dim=-1)
    colors = {
        "height": value_colors(points[:, :3] @ up_direction(scene)),
        "intensity": value_colors(points[:, 3]),
        "distance": value_colors(distance.clamp(min=0.1).log(), DEPTH_STOPS),
    }
    if scene.images is not None and scene.cameras_there:
        colors["picture"] = picture_colors(scene)
    if scene.colors is not None:
        colors["colour"] = rgb_bytes(scene.colors)
    if scene.point_labels is not None:
        colors["class"] = label_colors(scene.point_labels)
    if bool((points[:, 4] != 0).any()):
        colors["age"] = value_colors(-points[:, 4])
    return Cloud(points[:, :3], colors, reach * POINT_SHARE)


def picture_colors(scene: Scene) -> UInt8[Tensor, "P 3"]:
    """What the nearest camera that sees a point shows there; grey where none does.

    A point that something hides from the camera has the colour of that. Where colours sit beside their
    things, poses, intrinsics or times of the cameras are wrong.
    """
    points, cameras, images = scene.points[:, :3].cpu().float(), scene.cameras, scene.images
    found = torch.tensor(NOTHING, dtype=torch.uint8).repeat(len(points), 1)
    if cameras is None or images is None:
        return found
    nearest = torch.full((len(points),), torch.inf)
    for n in scene.cameras_there:
        pixels, _, seen = cameras[n].project(points)
        height, width = images[n].shape[-2:]
        u = pixels[:, 0].nan_to_num().floor().long().clamp(0, width - 1)
        v = pixels[:, 1].nan_to_num().floor().long().clamp(0, height - 1)
        if scene.image_valid is not None:
            seen = seen & scene.image_valid[n].cpu()[v, u]
        distance = (points - cameras.centers[n]).norm(dim=-1)
        chosen = seen & (distance < nearest)
        nearest = torch.where(chosen, distance, nearest)
        found[chosen] = rgb_bytes(images[n][:, v[chosen], u[chosen]].mT)
    return found


def label_colors(labels: Int[Tensor, " P"]) -> UInt8[Tensor, "P 3"]:
    """The colours of classes, light enough for a dark ground; grey for none."""
    light = 0.35 + 0.65 * class_colors(labels.cpu()[None])[:, 0].mT
    return torch.where((labels.cpu() > 0)[:, None], rgb_bytes(light), torch.tensor(NOTHING).byte())


def scene_cameras(scene: Scene) -> list[PicturedCamera]:
    """The cameras that the moment has, each with its picture, and its depth image where there is one."""
    cameras, images = scene.cameras, scene.images
    if cameras is None or images is None:
        return []
    found = []
    for n in scene.cameras_there:
        pictures = {"picture": images[n]}
        if scene.z_depths is not None and scene.z_depth_valid is not None:
            depth, valid = scene.z_depths[n].cpu(), scene.z_depth_valid[n].cpu()
            far = max(float(depth[valid].max()) if valid.any() else 1.0, 0.1)
            pictures["measured depth"] = depth_colors(depth, valid, near=far / 10, far=far)
        found.append(pictured_camera(scene.camera_names[n], cameras[n], pictures))
    return found


def box_lines(boxes: Boxes) -> Lines:
    """The edges of boxes in their classes' colours, with a line ahead from the middle of each."""
    centers, sizes, yaws = boxes.centers.cpu(), boxes.sizes.cpu(), boxes.yaws.cpu()
    cos, sin, zero = yaws.cos(), yaws.sin(), torch.zeros_like(yaws)
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], -1).view(-1, 3, 3)
    corners = (CORNERS * sizes[:, None]) @ turn.mT + centers[:, None]
    edges = corners[:, torch.tensor(EDGES)]
    ahead = centers + (turn @ (sizes * torch.tensor([0.75, 0.0, 0.0]))[..., None])[..., 0]
    segments = torch.cat([edges, torch.stack([centers, ahead], 1)[:, None]], 1)
    colors = label_colors(boxes.labels)[:, None].expand(-1, segments.shape[1], -1)
    return Lines(segments.flatten(0, 1), colors.flatten(0, 1).contiguous())


def track_lines(track: Float[Tensor, "T 3"]) -> Lines:
    """From one place of the sensor to the next."""
    segments = torch.stack([track[:-1], track[1:]], 1).cpu().float()
    return Lines(segments, torch.full((len(segments), 3), 255, dtype=torch.uint8))


def class_cells(classes: Int[Tensor, "Z Y X"], grid: VoxelGrid) -> Cells:
    """The voxels that are not free, in their classes' colours."""
    held = classes.cpu() > 0
    return Cells(grid.centers()[held], grid.voxel_size, label_colors(classes.cpu()[held]))


def cells_by_height(held: Tensor, grid: VoxelGrid) -> Cells:
    """Chosen voxels ``(Z, Y, X)``, by their height."""
    centers = grid.centers()[held.cpu()]
    return Cells(centers, grid.voxel_size, value_colors(centers[:, 2]))
