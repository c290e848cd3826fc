"""Whether a network of the user's own meets what recipes ask of an encoder: one tiny forward pass says it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders.contract import ImageEncoder, PointEncoder, VoxelEncoder
from renderpretrain.encoders.described import DescribedModule
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.geometry import VoxelGrid

WIDEST = 32
"""Voxels along x and y of the grid on which an encoder is tried; all of z."""

TRIED_VOXELS = 64

WHOLE = 2**21
"""Voxels up to which the whole grid is tried if a part of it was not enough."""


def own_point_encoder(encoder: nn.Module) -> PointEncoder:
    """A module of the user's own as an encoder of points; raises a ``ValueError`` if it gives no volumes."""
    if not isinstance(encoder, PointEncoder):
        raise ValueError(
            "encoder: expected a module with out_channels and output_grid(grid), got "
            f"{type(encoder).__name__}; a dense network goes into VolumeEncoder, one on lists of points into "
            "FlatEncoder"
        )
    return encoder


def own_image_encoder(encoder: nn.Module, image_size: tuple[int, int]) -> ImageEncoder:
    """A module of the user's own as an encoder of images, tried on one unless it is of this package.

    Args:
        encoder: An :class:`~renderpretrain.encoders.ImageEncoder`.
        image_size: Height and width of the images that it will be given.

    Raises:
        ValueError: If it has no channels, or does not answer as it says.
    """
    whole = _image_encoder(encoder)
    if needs_trial(encoder):
        check_image_encoder(encoder, image_size)
    return whole


def _image_encoder(encoder: nn.Module) -> ImageEncoder:
    """The module; raises a ``ValueError`` unless it has channels."""
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


def needs_trial(encoder: nn.Module) -> bool:
    """Whether a network is not of this package, and has numbers with which it could be tried."""
    if torch.empty(0).is_meta or any(p.is_meta for p in encoder.parameters()):
        return False
    return not isinstance(encoder, DescribedModule)


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
    try:
        given, answer = _answer_to_voxels(encoder, channels, shape)
    except ValueError:
        if shape == grid.shape or z * y * x > WHOLE:
            raise
        shape = grid.shape  # such as a network with an embedding of every place in it
        given, answer = _answer_to_voxels(encoder, channels, shape)
    if isinstance(answer, SparseTensor):
        came, expected = tuple(answer.features.shape), (given, encoder.out_channels)
        if came != expected:
            raise ValueError(f"encoder: expected features {expected} of {given} voxels, got {came}")
        _check_finite("encoder", encoder, answer.features)
        return
    _check_volume(encoder, answer, grid, shape)
    _check_finite("encoder", encoder, answer)


def _answer_to_voxels(encoder: nn.Module, channels: int, shape: tuple[int, int, int]) -> tuple[int, Any]:
    """How many voxels an encoder was given, and what it answered."""
    size = shape[0] * shape[1] * shape[2]
    places = torch.arange(0, size, max(1, size // TRIED_VOXELS))
    coords = torch.stack(torch.unravel_index(places, shape), 1)
    coords = torch.cat([torch.zeros_like(coords[:, :1]), coords], 1).int()
    features = torch.randn(len(coords), channels, generator=torch.Generator().manual_seed(0))
    device = _device(encoder)
    with _tried("encoder", encoder, f"{channels} columns of {len(coords)} voxels in {shape}"):
        answer = encoder(SparseTensor(features.to(device), coords.to(device), shape, 1))
    return len(coords), answer


def _device(module: nn.Module) -> torch.device:
    """Where a network's numbers are."""
    held = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if held is None else held.device


def _check_finite(name: str, encoder: nn.Module, *answers: Tensor) -> None:
    """Raise a ``ValueError`` if what a network answers with holds NaN or infinities."""
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinities of {type(encoder).__name__}"
        )


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
    channels = tuple(_image_encoder(encoder).channels)
    image = torch.zeros(1, 3, *image_size, device=_device(encoder))
    with _tried("image_backbone", encoder, f"an image {tuple(image.shape)}"):
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
    _check_finite("image_backbone", encoder, *maps)


@contextmanager
def _tried(name: str, encoder: nn.Module, given: str) -> Iterator[None]:
    """Run a network once, without a trace in it or in random numbers; what it raises is one line."""
    trained = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name}: {type(encoder).__name__} fails on {given} ({type(error).__name__}: {said})"
        ) from error
    finally:
        for part, training in trained:
            part.training = training


def _strides(shape: tuple[int, ...], found: tuple[int, ...]) -> str:
    """How many cells of the input one of the output stands for, along every axis."""
    return " x ".join(f"{whole / max(part, 1):.3g}" for whole, part in zip(shape, found, strict=True))
