"""Indoor scenes: neighbouring posed views of one room, with points of their depth images or of its cloud."""

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.cache import Cache
from renderpretrain.data.folder.clouds import classes_nearby, read_cloud, seen_points
from renderpretrain.data.folder.depths import read_classes, read_depth
from renderpretrain.data.folder.files import Sweep
from renderpretrain.data.folder.fitting import Fitting, Placement, real_pixels
from renderpretrain.data.folder.geometry import lens_depths, view_camera
from renderpretrain.data.folder.pictures import PictureFile, read_image, view_pictures
from renderpretrain.data.folder.registration import registered
from renderpretrain.data.folder.schema import IndoorFolder, frame_name
from renderpretrain.data.scene import LUMINANCE, Scene
from renderpretrain.geometry import Cameras

DEFAULT_VIEWS = 4
"""Views per scene where neither the user nor the folder says."""

NO_DEPTH = "expected a file because the format is posed_rgbd, got nothing"

STEEPEST = 0.1
"""Cosine between a normal and its ray below which neighbouring pixels lie on two surfaces rather than one."""

DEFAULT_POINTS = 2**15
"""Points per scene where the user does not say: depth images have far more pixels than a voxel grid needs."""


@dataclass(frozen=True)
class View:
    """One decoded view.

    Attributes:
        image: uint8 ``(3, H, W)``.
        z_depth: ``(H, W)`` metres as ``Cameras.project`` gives depth, 0 = not measured; ``None`` without a
            depth image.
        points: ``(P, 5)`` in the room's frame.
        colors: ``(P, 3)`` in [0, 1].
        normals: ``(P, 3)`` in the room's frame, 0 where the depth image does not tell.
        pixel_labels: int16 ``(H, W)`` classes; ``None`` where the folder has none.
        point_labels: ``(P,)`` the same for the points.
    """

    image: torch.Tensor
    z_depth: torch.Tensor | None
    points: torch.Tensor
    colors: torch.Tensor
    normals: torch.Tensor
    pixel_labels: torch.Tensor | None = None
    point_labels: torch.Tensor | None = None


def group_views(
    folder: IndoorFolder, views_per_scene: int | None, held_out_every: int | None
) -> list[list[int]]:
    """Consecutive views of one room, so many per scene; the last scene of a room may have fewer.

    Views follow each other as their time stamps say, and as they are listed in a room where one has none.
    Views without a pose are in none.

    Args:
        folder: Its views.
        views_per_scene: So many; ``None`` takes the folder's word, or :data:`DEFAULT_VIEWS`.
        held_out_every: Every so many-th view shares its scene with its like only, and these scenes come last.
    """
    most = views_per_scene or folder.views_per_scene or DEFAULT_VIEWS
    views = folder.tracked
    last = set(views[held_out_every - 1 :: held_out_every]) if held_out_every else set()
    groups: list[list[int]] = []
    order = _by_room_and_time(folder)
    for view in sorted(views, key=lambda view: (view in last, order[view])):
        frame, group = folder.frames[view], groups[-1] if groups else []
        fits = 0 < len(group) < most and folder.frames[group[0]].scene == frame.scene
        if fits and (group[0] in last) == (view in last):
            group.append(view)
        else:
            groups.append([view])
    return groups


def _by_room_and_time(folder: IndoorFolder) -> list[tuple[int, float]]:
    """What sorts a folder's views: their room's number and their time."""
    untimed = {frame.scene for frame in folder.frames if frame.timestamp_s is None}
    times = [0.0 if frame.scene in untimed else frame.timestamp_s or 0.0 for frame in folder.frames]
    rooms: dict[str, int] = {}
    numbers = [rooms.setdefault(frame.scene, len(rooms)) for frame in folder.frames]
    return list(zip(numbers, times, strict=True))


def indoor_scene(
    access: FolderAccess,
    folder: IndoorFolder,
    views: list[int],
    fitting: Fitting | None,
    max_points: int | None,
    cache: Cache,
) -> Scene:
    """The scene of some views; its LiDAR origin is the mean of the camera centres."""
    frames = [folder.frames[view] for view in views]
    fitting = fitting or Fitting((frames[0].height, frames[0].width))
    size, places = fitting.size, [fitting.of((frame.height, frame.width)) for frame in frames]
    most = (max_points or DEFAULT_POINTS) // len(views)
    decoded = [
        cache.get(("view", view, most), partial(_read, access, folder, view, place, most, cache), _nbytes)
        for view, place in zip(views, places, strict=True)
    ]
    cameras = Cameras.stack(
        [place.camera(view_camera(folder, view)) for view, place in zip(views, places, strict=True)]
    )
    depths = _filled([view.z_depth for view in decoded], [torch.zeros(size)] * len(views))
    unknown = [torch.full(size, -1, dtype=torch.int16)] * len(views)
    pixel_labels = _filled([view.pixel_labels for view in decoded], unknown)
    unknown = [torch.full((len(view.points),), -1) for view in decoded]
    point_labels = _filled([view.point_labels for view in decoded], unknown)
    first = frames[0]
    scene = Scene(
        name=f"{access.path.name}/{first.frame_id}",
        points=torch.cat([view.points for view in decoded]),
        lidar_origin=cameras.centers.mean(0),
        world_to_global=torch.eye(4),
        timestamp=first.timestamp_s or 0.0,
        pixel_labels=torch.stack(pixel_labels) if pixel_labels else None,
        point_labels=torch.cat(point_labels) if point_labels else None,
        colors=torch.cat([view.colors for view in decoded]),
        normals=torch.cat([view.normals for view in decoded]),
    )
    images = torch.stack([view.image for view in decoded]).float().div_(255)
    names = tuple(str(folder.frames[view].frame_id) for view in views)
    scene = scene.with_images(images, cameras, names, torch.stack(depths) if depths else None)
    return replace(scene, image_valid=real_pixels(cameras, places))


def _read(
    access: FolderAccess, folder: IndoorFolder, view: int, place: Placement, most: int, cache: Cache
) -> View:
    """One view, with the points of its room's cloud where there is one."""
    return read_view(access, folder, view, place, most, _cloud(access, folder, view, cache))


def _cloud(access: FolderAccess, folder: IndoorFolder, view: int, cache: Cache) -> Sweep | None:
    """The cloud of a view's room, read once and then kept in memory."""
    frame = folder.frames[view]
    entry = folder.cloud_of(frame)
    if entry is None:
        return None
    key = ("cloud", frame.scene, *entry.files)
    return cache.get(key, partial(read_cloud, access, folder, frame), lambda sweep: sweep.nbytes)


def seen_cloud(access: FolderAccess, folder: IndoorFolder, view: int, cache: Cache) -> Sweep:
    """The points of its room's cloud that a view sees; raises a ``ValueError`` where it has none."""
    frame, cloud = folder.frames[view], _cloud(access, folder, view, cache)
    if cloud is None:
        raise ValueError(f"{frame_name(frame)}: cloud: expected one, got none")
    depth = _depth(access, folder, view, view_pictures(access, folder, frame, frame_name(frame)))
    size = (frame.height, frame.width) if depth is None else (depth.shape[0], depth.shape[1])
    camera = view_camera(folder, view).resize(size)
    rows, _ = seen_points(cloud, camera, None if depth is None else lens_depths(camera, depth))
    return cloud.chosen(rows.numpy())


def _filled(tensors: list[torch.Tensor | None], blanks: list[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors of all views, a blank one where a view lacks it; none where all do."""
    if all(tensor is None for tensor in tensors):
        return []
    return [blank if tensor is None else tensor for tensor, blank in zip(tensors, blanks, strict=True)]


def read_view(
    access: FolderAccess,
    folder: IndoorFolder,
    view: int,
    place: Placement,
    most: int,
    cloud: Sweep | None = None,
) -> View:
    """Decode one view; depth and classes take the nearest pixel, for a mean of depths lies on no surface.

    Args:
        access: How the folder's files are read.
        folder: Its index.
        view: Place of the view in it.
        place: How its picture comes to the scene's size.
        most: At most so many points.
        cloud: Of its room; without one its points are those of its depth image.
    """
    frame = folder.frames[view]
    files = view_pictures(access, folder, frame, frame_name(frame))
    image = place.put(torch.from_numpy(read_image(files["color"], place.scaled))).permute(2, 0, 1)
    depth = _depth(access, folder, view, files)
    size = (frame.height, frame.width) if depth is None else (depth.shape[0], depth.shape[1])
    camera = view_camera(folder, view).resize(size)
    along = None if depth is None else lens_depths(camera, depth)
    labels = None
    if "semseg" in files:
        labels = torch.from_numpy(read_classes(files["semseg"], folder.classes))
    elif cloud is not None and depth is not None:
        labels = _classes_of_cloud(cloud, camera, depth)
    pixel_labels = None
    if labels is not None:
        pixel_labels = place.put(_nearest(labels, place.scaled), -1).to(torch.int16)
    if cloud is None and (depth is None or along is None):
        none = torch.zeros(0, 5)
        return View(image, None, none, none[:, :3], none[:, :3], pixel_labels)
    of_pixels = None if labels is None else _nearest(labels, size)
    measured = _measured(cloud, camera, depth, most, view)
    points, colors, labels = _colored(measured, torch.from_numpy(read_image(files["color"], size)), of_pixels)
    put = None if along is None else place.put(_nearest(along, place.scaled))
    return View(image, put, points, colors, measured.normals, pixel_labels, labels)


def _depth(
    access: FolderAccess, folder: IndoorFolder, view: int, files: dict[str, PictureFile]
) -> torch.Tensor | None:
    """The view's depth image along the optical axis, as the picture's camera sees it; ``None`` without."""
    frame = folder.frames[view]
    if "depth" not in files:
        if folder.format == "posed_rgbd":
            access.doubt("no depth", access.table, f"{frame_name(frame)}: depth", NO_DEPTH)
        return None
    depth = torch.from_numpy(read_depth(files["depth"], folder.depths))
    camera = view_camera(folder, view).resize((depth.shape[0], depth.shape[1]))
    depth = registered(depth, frame, camera)
    return torch.where(lens_depths(camera, depth) > 0, depth, 0.0)


@dataclass(frozen=True)
class _Measured:
    """Points that a view sees, ``(P, 3)``, the pixels ``(v, u)`` they fall on, and what is known of them."""

    xyz: torch.Tensor
    pixels: torch.Tensor
    normals: torch.Tensor
    colors: torch.Tensor | None = None
    labels: torch.Tensor | None = None


def _measured(
    cloud: Sweep | None, camera: Cameras, depth: torch.Tensor | None, most: int, seed: int
) -> _Measured:
    """The points of the room's cloud that the view sees or, without one, those of its depth image."""
    if cloud is None:
        if depth is None:
            raise ValueError("read_view: expected a cloud or a depth image, got neither")
        xyz, pixels = back_project(camera, depth, most, seed=seed)
        return _Measured(xyz, pixels, depth_normals(camera, depth, pixels))
    rows, pixels = seen_points(cloud, camera, None if depth is None else lens_depths(camera, depth))
    chosen = _chosen(len(rows), most, seed)
    rows, pixels = rows[chosen], pixels[chosen]
    xyz, known = torch.from_numpy(cloud.points[:, :3])[rows], rows.numpy()
    normals = torch.zeros_like(xyz) if depth is None else depth_normals(camera, depth, pixels)
    return _Measured(
        xyz,
        pixels,
        normals if cloud.normals is None else torch.from_numpy(cloud.normals[known]),
        None if cloud.colors is None else torch.from_numpy(cloud.colors[known]),
        None if cloud.labels is None else torch.from_numpy(cloud.labels[known]),
    )


def _colored(
    measured: _Measured, picture: torch.Tensor, of_pixels: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Points, colours and classes of a :class:`View`: what a point does not know itself, its pixel does.

    Args:
        measured: The points.
        picture: ``(H, W, 3)`` uint8.
        of_pixels: ``(H, W)`` classes.
    """
    v, u = measured.pixels.unbind(-1)
    colors = picture[v, u].float() / 255 if measured.colors is None else measured.colors
    intensity = colors @ torch.tensor(LUMINANCE)
    lag = torch.zeros(len(colors), 1)
    labels = measured.labels
    if labels is None and of_pixels is not None:
        labels = of_pixels[v, u].long()
    return torch.cat([measured.xyz, intensity[:, None], lag], -1), colors, labels


def _classes_of_cloud(cloud: Sweep, camera: Cameras, depth: torch.Tensor) -> torch.Tensor | None:
    """The class of each measured pixel, by the points of the room around what it shows; -1 for others."""
    if cloud.labels is None:
        return None
    rows = seen_points(cloud, camera, lens_depths(camera, depth))[0].numpy()
    places, pixels = back_project(camera, depth, depth.numel(), seed=0)
    classes = torch.full(depth.shape, -1)
    found = classes_nearby(cloud.points[rows, :3], cloud.labels[rows], places.numpy())
    classes[pixels[:, 0], pixels[:, 1]] = torch.from_numpy(found)
    return classes


def _nearest(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """An image ``(H, W)`` at another size: the pixel under each new centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(image.shape, size, strict=True)
    )
    return image[rows][:, columns]


def _chosen(count: int, most: int, seed: int) -> torch.Tensor:
    """Which of so many rows stay, in their order."""
    if count <= most:
        return torch.arange(count)
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    return torch.from_numpy(np.sort(chosen))


def back_project(
    camera: Cameras, z_depth: torch.Tensor, most: int, *, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """World points ``(P, 3)`` of measured pixels, and the pixels ``(v, u)`` they come from.

    Args:
        camera: One camera.
        z_depth: ``(H, W)``, metres along the optical axis, 0 = not measured.
        most: At most so many points.
        seed: Chooses which.
    """
    measured = torch.nonzero(z_depth > 0)
    measured = measured[_chosen(len(measured), most, seed)]
    v, u = measured.unbind(-1)
    rays = camera.rays(torch.stack([u, v], -1) + 0.5)
    t = z_depth[v, u] / (rays.directions @ camera.camera_to_world[:3, 2])
    return rays.origins + t[:, None] * rays.directions, measured


def depth_normals(camera: Cameras, z_depth: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Unit normals ``(P, 3)`` of the surface seen in some pixels, in the world frame, towards the camera.

    From four pixels around each, a sixty-fourth of the image's width away, so that the sensor's noise is
    small beside the distance between them; 0 where one was not measured, or where they lie further apart than
    a surface seen at :data:`STEEPEST` would put them.

    Args:
        camera: One camera.
        z_depth: ``(H, W)``, metres along the optical axis, 0 = not measured.
        pixels: ``(P, 2)``, ``(v, u)``.
    """
    size = torch.tensor(z_depth.shape)
    reach = max(1, round(z_depth.shape[1] / 64))
    near = pixels + reach * torch.tensor([[[0, -1]], [[0, 1]], [[-1, 0]], [[1, 0]]])
    inside = ((near >= 0) & (near < size)).all(-1)
    v, u = near.clamp(min=torch.zeros(2, dtype=torch.long), max=size - 1).unbind(-1)
    z = z_depth[v, u]
    measured = (inside & (z > 0)).all(0)
    rays = camera.rays((torch.stack([u, v], -1) + 0.5).reshape(-1, 2))
    axis = camera.camera_to_world[:3, 2]
    ends = rays.origins + (z.flatten() / (rays.directions @ axis).clamp(min=1e-6))[:, None] * rays.directions
    left, right, above, below = ends.view(4, -1, 3)
    normals = torch.linalg.cross(below - above, right - left)
    normals = torch.nn.functional.normalize(normals, dim=-1)
    towards = torch.nn.functional.normalize((left + right) / 2 - rays.origins[: len(left)], dim=-1)
    cosines = (normals * towards).sum(-1, keepdim=True)
    known = measured[:, None] & (cosines.abs() > STEEPEST)
    return torch.where(known, -normals * cosines.sign(), 0.0)


def _nbytes(view: View) -> int:
    """How much memory the arrays hold, in bytes."""
    held = (getattr(view, entry.name) for entry in fields(view))
    return sum(t.numel() * t.element_size() for t in held if t is not None)
