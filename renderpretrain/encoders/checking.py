"""Whether a network of the user's own meets what recipes ask of an encoder: one tiny forward pass says it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from renderpretrain.encoders.contract import ImageEncoder, PointEncoder, VoxelEncoder
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.geometry import VoxelGrid

WIDEST = 32
"""Voxels along x and y of the grid on which an encoder is tried; all of z."""

TRIED_VOXELS = 64


def own_point_encoder(encoder: nn.Module) -> PointEncoder:
    """A module of the user's own as an encoder of points; raises a ``ValueError`` if it gives no volumes."""
    if not isinstance(encoder, PointEncoder):
        raise ValueError(
            "encoder: expected a module with out_channels and output_grid(grid), got "
            f"{type(encoder).__name__}; a dense network goes into VolumeEncoder, one on lists of points into "
            "FlatEncoder"
        )
    return encoder


def own_image_encoder(encoder: nn.Module) -> ImageEncoder:
    """A module of the user's own as an encoder of images; raises a ``ValueError`` if it has no channels."""
    if not isinstance(encoder, ImageEncoder):
        raise ValueError(
            "image_backbone: expected a module with channels, (images, hidden) -> maps, got "
            f"{type(encoder).__name__}; a network of your own goes into ImageMaps"
        )
    return encoder


def check_sensors(modality: str, encoder: object, image_backbone: object) -> None:
    """Raise a ``ValueError`` if a network of the user's own is for a sensor that a recipe does not have."""
    if encoder is not None and modality == "camera":
        raise ValueError("encoder: expected an image_backbone, for the recipe has no LiDAR")
    if image_backbone is not None and modality == "lidar":
        raise ValueError("image_backbone: expected an encoder of points, for the recipe has no cameras")


def check_point_encoder(encoder: nn.Module, channels: int, grid: VoxelGrid) -> None:
    """Raise a ``ValueError`` unless a module is an encoder of points, as its answer to a few voxels says.

    Args:
        encoder: A :class:`~renderpretrain.encoders.PointEncoder` or
            :class:`~renderpretrain.encoders.VoxelEncoder`.
        channels: Columns of a point that it will be given.
        grid: The voxels it will be given.
    """
    if not isinstance(encoder, VoxelEncoder | PointEncoder):
        raise ValueError(
            f"encoder: expected a module with out_channels and output_grid(grid), or with out_channels that "
            f"gives features of the same voxels, got {type(encoder).__name__}; a dense network goes into "
            "VolumeEncoder, one on lists of points into FlatEncoder"
        )
    z, y, x = grid.shape
    shape = (z, min(y, WIDEST), min(x, WIDEST))
    places = torch.arange(
        0, shape[0] * shape[1] * shape[2], max(1, shape[0] * shape[1] * shape[2] // TRIED_VOXELS)
    )
    coords = torch.stack(torch.unravel_index(places, shape), 1)
    coords = torch.cat([torch.zeros_like(coords[:, :1]), coords], 1).int()
    features = torch.randn(len(coords), channels, generator=torch.Generator().manual_seed(0))
    with _tried(encoder, f"{channels} columns of {len(coords)} voxels in {shape}"):
        answer = encoder(SparseTensor(features, coords, shape, 1))
    if isinstance(answer, SparseTensor):
        came, expected = tuple(answer.features.shape), (len(coords), encoder.out_channels)
        if came != expected:
            raise ValueError(f"encoder: expected features {expected} of {len(coords)} voxels, got {came}")
        return
    _check_volume(encoder, answer, grid, shape)


def _check_volume(encoder: nn.Module, volume: object, grid: VoxelGrid, shape: tuple[int, int, int]) -> None:
    """Raise a ``ValueError`` unless an encoder's volume lies on the grid that it says."""
    if not isinstance(encoder, PointEncoder):
        raise ValueError(
            "encoder: expected output_grid(grid) of a network that answers with something else than its "
            f"voxels, got {type(encoder).__name__} without"
        )
    corner = zip(grid.lower, reversed(shape), grid.voxel_size, strict=True)
    x, y, z = (low + count * size for low, count, size in corner)
    tried = VoxelGrid((*grid.lower, x, y, z), grid.voxel_size)
    expected = (1, encoder.out_channels, *encoder.output_grid(tried).shape)
    came = tuple(volume.shape) if isinstance(volume, Tensor) else type(volume).__name__
    if came != expected:
        said = _strides(shape, expected[2:])
        found = _strides(shape, came[2:]) if isinstance(came, tuple) and len(came) == 5 else "none"
        raise ValueError(
            f"encoder: expected a volume {expected} of voxels {shape}, as out_channels and output_grid say "
            f"(stride {said}), got {came} (stride {found})"
        )


def check_image_encoder(encoder: nn.Module, image_size: tuple[int, int]) -> None:
    """Raise a ``ValueError`` unless a module is an encoder of images, as its answer to one image says.

    Args:
        encoder: A :class:`~renderpretrain.encoders.ImageEncoder`.
        image_size: Height and width of the images that it will be given.
    """
    channels = tuple(own_image_encoder(encoder).channels)
    image = torch.zeros(1, 3, *image_size)
    with _tried(encoder, f"an image {tuple(image.shape)}"):
        maps = encoder(image, None)
    fits = isinstance(maps, list | tuple) and all(isinstance(x, Tensor) and x.dim() == 4 for x in maps)
    widths = tuple(x.shape[1] for x in maps) if fits else ()
    sizes = [tuple(x.shape[2:]) for x in maps] if fits else []
    if not fits or widths != channels or sizes != sorted(sizes, reverse=True):
        shapes = ", ".join(str(tuple(x.shape)) for x in maps) if fits else type(maps).__name__
        strides = ", ".join(_strides(image_size, size) for size in sizes) or "none"
        raise ValueError(
            f"image_backbone: expected maps (1, C, h, w), fine to coarse, with C of {channels}, got {shapes} "
            f"(strides {strides})"
        )


@contextmanager
def _tried(encoder: nn.Module, given: str) -> Iterator[None]:
    """Run a network once, without a trace in it or in random numbers; what it raises is one line."""
    trained = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"encoder: {type(encoder).__name__} fails on {given} ({type(error).__name__}: {said})"
        ) from error
    finally:
        for part, training in trained:
            part.training = training


def _strides(shape: tuple[int, ...], found: tuple[int, ...]) -> str:
    """How many cells of the input one of the output stands for, along every axis."""
    return " x ".join(f"{whole / max(part, 1):.3g}" for whole, part in zip(shape, found, strict=True))
