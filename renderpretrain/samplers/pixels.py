"""Which pixels of the cameras to look at."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_count, check_shape
from renderpretrain.geometry import Cameras


def check_cameras(cameras: Cameras, batch_size: int, num_cameras: int | None = None) -> None:
    """Raise ``ValueError`` unless there are ``(B, N)`` cameras."""
    shape = tuple(cameras.shape)
    if len(shape) != 2 or shape[0] != batch_size or num_cameras not in (None, shape[1]):
        count = "N" if num_cameras is None else num_cameras
        raise ValueError(f"cameras: expected a batch of ({batch_size}, {count}), got {shape}")


def pixel_grid(
    cameras: Cameras, stride: int, *, top: int | float = 0.0
) -> tuple[Float[Tensor, "P 2"], tuple[int, int]]:
    """Every ``stride``-th pixel's centre in reading order, and the shape ``(h, w)`` of that picture.

    Args:
        cameras: Gives the image size and the device.
        stride: Pixels between neighbours.
        top: Share of the image height to leave out at the top (the sky).
    """
    _check_stride(stride, top)
    height, width = cameras.image_size
    device = cameras.intrinsics.device
    v = torch.arange(int(height * top), height, stride, device=device) + 0.5
    u = torch.arange(0, width, stride, device=device) + 0.5
    grid = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], -1)
    return grid.reshape(-1, 2), (len(v), len(u))


def colors_at(
    images: Float[Tensor, "B N 3 H W"], pixels: Float[Tensor, "B N K 2"]
) -> Float[Tensor, "B N K 3"]:
    """Colour of the pixel that contains each position; positions outside read the border."""
    height, width = images.shape[-2:]
    u = pixels[..., 0].floor().long().clamp(0, width - 1)
    v = pixels[..., 1].floor().long().clamp(0, height - 1)
    index = (v * width + u)[:, :, None].expand(-1, -1, 3, -1)
    return images.flatten(3).gather(3, index).mT


def read_pixels(
    pictures: Shaped[Tensor, "B N H W"], camera: Int[Tensor, "B R"], pixels: Float[Tensor, "B R 2"]
) -> Shaped[Tensor, "B R"]:
    """What the cameras' pictures hold at pixels; positions outside read the border."""
    sizes = check_shape("pictures", pictures, "B N H W")
    rays = check_shape("camera", camera, "B R", B=sizes["B"])
    check_shape("pixels", pixels, "B R 2", **rays)
    height, width = pictures.shape[-2:]
    u = pixels[..., 0].floor().long().clamp(0, width - 1)
    v = pixels[..., 1].floor().long().clamp(0, height - 1)
    return pictures.flatten(1).gather(1, (camera * height + v) * width + u)


def pixel_candidates(
    cameras: Cameras, *, stride: int = 1, top: int | float = 0.0
) -> Bool[Tensor, "*batch H W"]:
    """The pixels of :func:`pixel_grid` as a picture for every camera: all of them with a stride of one.

    Args:
        cameras: Give the image size and the device.
        stride: Pixels between neighbours.
        top: Share of the image height to leave out at the top (the sky).
    """
    _check_stride(stride, top)
    height, width = cameras.image_size
    grid = torch.zeros(height, width, dtype=torch.bool, device=cameras.intrinsics.device)
    grid[int(height * top) :: stride, ::stride] = True
    return grid.expand(*cameras.shape, height, width)


def draw_pixels(
    candidates: Bool[Tensor, "B N h w"], image_size: tuple[int, int], count: int, seeds: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B N K 2"], Bool[Tensor, "B N K"]]:
    """Draw ``count`` pixels of every camera among those that candidate cells cover.

    The pixels, in reading order, are cut in ``count`` equal shares and one is drawn from each: every pixel is
    equally likely, none is drawn more than twice, and there is no sorting. Where there are fewer pixels than
    ``count``, all are taken once.

    Args:
        candidates: Cells that tile the image: its pixels, or its patches.
        image_size: ``(height, width)`` in pixels.
        count: Pixels per camera.
        seeds: One per sample.

    Returns:
        Pixel centres ``(u, v)``, and which slots hold one; the others lie anywhere in the image.

    Raises:
        ValueError: If the cells do not tile the image.
    """
    check_shape("candidates", candidates, "B N h w")
    check_bool(candidates=candidates)
    check_count("count", count)
    seeds = ops.own_seeds(seeds, len(candidates), "draw_pixels")
    (height, width), (rows, columns) = image_size, candidates.shape[2:]
    if not rows or not columns or height % rows or width % columns:
        raise ValueError(f"candidates: expected cells that tile {image_size} pixels, got {(rows, columns)}")
    cell_height, cell_width = height // rows, width // columns
    area = cell_height * cell_width
    ends = candidates.flatten(2).cumsum(-1)
    total = ends[..., -1:] * area
    slot = torch.arange(count, device=seeds.device)
    used = total.clamp(max=count)
    share = total.double() / used.clamp(min=1)
    place = slot + ops.uniform(seeds, (candidates.shape[1], count)).double()
    rank = torch.minimum((place * share).long(), (total - 1).clamp(min=0))
    cell = torch.searchsorted(ends, rank // area, right=True).clamp(max=rows * columns - 1)
    within = rank % area
    u = cell % columns * cell_width + within % cell_width
    v = cell // columns * cell_height + within // cell_width
    return torch.stack([u, v], -1) + 0.5, slot < used


def z_buffer(
    pixels: Float[Tensor, "*views P 2"],
    distance: Float[Tensor, "*views P"],
    visible: Bool[Tensor, "*views P"],
    image_size: tuple[int, int],
) -> tuple[Float[Tensor, "*views cells"], Int[Tensor, "*views P"]]:
    """The smallest distance in each pixel.

    Args:
        pixels: ``(u, v)`` of points, inside the image where visible.
        distance: Of the points; what is not visible may hold anything.
        visible: Which points count.
        image_size: ``(height, width)``.

    Returns:
        Distances of the pixels in reading order, infinite where there is no point, and one cell more for what
        is not visible; and the cell of every point.
    """
    height, width = image_size
    u, v = torch.where(visible[..., None], pixels, 0.0).long().unbind(-1)
    cell = torch.where(visible, v * width + u, height * width)
    nearest = distance.new_full((*visible.shape[:-1], height * width + 1), torch.inf)
    nearest.scatter_reduce_(-1, cell, torch.where(visible, distance, torch.inf), "amin")
    return nearest, cell


def nearest_per_pixel(
    pixels: Float[Tensor, "B N P 2"],
    z_depth: Float[Tensor, "B N P"],
    visible: Bool[Tensor, "B N P"],
    image_size: tuple[int, int],
) -> Bool[Tensor, "B N P"]:
    """Which visible points are the nearest one in their pixel; of equally near ones the first.

    Args:
        pixels: Where the points project to, inside the image where visible.
        z_depth: As ``Cameras.project`` gives it, metres.
        visible: Which points the camera sees.
        image_size: ``(height, width)``; points further apart than a pixel do not compete.
    """
    sizes = check_shape("visible", visible, "B N P")
    check_bool(visible=visible)
    check_shape("pixels", pixels, "B N P 2", **sizes)
    check_shape("z_depth", z_depth, "B N P", **sizes)
    nearest, cell = z_buffer(pixels, z_depth, visible, image_size)
    candidate = visible & (z_depth == nearest.gather(2, cell))
    index = torch.arange(visible.shape[2], device=visible.device).expand_as(cell)
    none = visible.shape[2]
    first = cell.new_full(nearest.shape, none)
    first.scatter_reduce_(2, cell, torch.where(candidate, index, none), "amin")
    return candidate & (index == first.gather(2, cell))


def depth_pictures(
    points: Float[Tensor, "B P 3"], point_valid: Bool[Tensor, "B P"], cameras: Cameras
) -> Float[Tensor, "B N H W"]:
    """Sparse depth images: the nearest point's depth in each pixel, metres, as ``Cameras.project`` gives it.

    0 where there is none. Not differentiable. For coarser images, ``cameras.resize(size)``.

    Args:
        points: World.
        point_valid: Which points count.
        cameras: ``(B, N)``.
    """
    sizes = check_shape("points", points, "B P 3")
    check_shape("point_valid", point_valid, "B P", **sizes)
    check_bool(point_valid=point_valid)
    check_cameras(cameras, sizes["B"])
    with torch.no_grad():
        pixels, z_depth, inside = cameras.project(points[:, None])
        visible = inside & point_valid[:, None]
        nearest, _ = z_buffer(pixels, z_depth, visible, cameras.image_size)
        picture = nearest[..., :-1].unflatten(-1, cameras.image_size)
        return torch.where(picture.isinf(), 0.0, picture)


def draw(
    candidates: Bool[Tensor, "B *lead P"], count: int, seeds: Int[Tensor, " B"]
) -> tuple[Int[Tensor, "B *lead K"], Bool[Tensor, "B *lead K"]]:
    """Draw ``count`` of the candidates along the last axis without replacement.

    Returns:
        Their indices, and which slots hold one: where there are fewer candidates, the rest of the slots is
        False and points at index 0.
    """
    check_count("num_rays", count)
    keys = torch.where(candidates, ops.uniform(seeds, tuple(candidates.shape[1:])), 2.0)
    available = min(count, candidates.shape[-1])
    # A stable sort, so that neither padding nor ties change which ray gets which jitter.
    values, index = keys.sort(dim=-1, stable=True)
    missing = (0, count - available)
    found = torch.nn.functional.pad(values[..., :available] < 1.5, missing)
    return torch.where(found, torch.nn.functional.pad(index[..., :available], missing), 0), found


def _check_stride(stride: int, top: int | float) -> None:
    if stride < 1 or not 0 <= top < 1:
        raise ValueError(f"stride, top: expected at least 1, and a share in [0, 1), got {stride} and {top}")
