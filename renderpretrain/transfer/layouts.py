"""How a sparse convolution's kernel lies in memory: who writes which axis where.

Two things differ between frameworks and cannot be told from a file alone. The order of the dimensions: spconv
2 has ``(out, k, k, k, in)`` (KRSC), spconv 1 and its copies inside mmcv, mmdetection3d 0.x and BEVFusion
``(k, k, k, in, out)`` (RSCK). And which axis comes first among the ``k``: z in SECOND's line (OpenPCDet,
mmdetection3d, UniPAD), x in BEVFusion and Pointcept; a cubic kernel in the wrong order has the right shape.

One quirk: spconv 2 stores a kernel of one cell in the memory order ``(in, out)`` under the shape ``(out, 1,
1, 1, in)``. Permuting such a tensor, as the hosts' own converters do, mixes its channels up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Tensors = dict[str, Tensor]
Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Kernels = Literal["KRSC", "RSCK"]
Axes = Literal["zyx", "xyz"]


@dataclass(frozen=True)
class Layout:
    """Where a framework keeps the numbers of a sparse kernel.

    Attributes:
        kernels: ``"KRSC"`` of spconv 2 or ``"RSCK"`` of spconv 1.
        axes: Order of the three kernel axes.
    """

    kernels: Kernels = "KRSC"
    axes: Axes = "zyx"


def convert_kernel(weight: Tensor, source: Layout, target: Layout) -> Tensor:
    """The same convolution's kernel in another layout; nothing but the order of the numbers changes.

    Args:
        weight: Five dimensions.
        source: How it lies.
        target: How the result lies, contiguously.

    Raises:
        ValueError: If it has not five dimensions.
    """
    if weight.ndim != 5:
        raise ValueError(f"weight: expected a sparse kernel of five dimensions, got {tuple(weight.shape)}")
    kernel = _to_rsck(weight) if source.kernels == "KRSC" else weight
    if source.axes != target.axes:
        kernel = kernel.permute(2, 1, 0, 3, 4)
    return _to_krsc(kernel) if target.kernels == "KRSC" else kernel.contiguous()


def convert_shape(shape: Shape, source: Layout, target: Layout) -> Shape:
    """Shape of what :func:`convert_kernel` makes."""
    k, channels = (shape[1:4], (shape[4], shape[0])) if source.kernels == "KRSC" else (shape[:3], shape[3:])
    k = k if source.axes == target.axes else k[::-1]
    return (channels[1], *k, channels[0]) if target.kernels == "KRSC" else (*k, *channels)


def kernel_size(shape: Shape, layout: Layout) -> tuple[int, int, int]:
    """Cells of a kernel along ``(z, y, x)``."""
    first, second, third = shape[1:4] if layout.kernels == "KRSC" else shape[:3]
    return (first, second, third) if layout.axes == "zyx" else (third, second, first)


def guess_kernels(shapes: Iterable[Shape], default: Kernels) -> Kernels:
    """Which of the two layouts sparse kernels are in: the one in which all of them are small.

    No kernel here has more than seven cells along an axis, and layers have more channels than that somewhere.

    Args:
        shapes: Of kernels of one file.
        default: The answer where both fit.

    Raises:
        ValueError: If neither fits; names the shape.
    """
    shapes = list(shapes)
    fits = {
        "KRSC": [s for s in shapes if max(s[1:4]) > MOST_CELLS],
        "RSCK": [s for s in shapes if max(s[:3]) > MOST_CELLS],
    }
    possible = [name for name, misfits in fits.items() if not misfits]
    if not possible:
        raise ValueError(
            f"expected sparse kernels (out, k, k, k, in) or (k, k, k, in, out), got {fits['KRSC'][0]}"
        )
    return default if default in possible else ("KRSC" if possible == ["KRSC"] else "RSCK")


MOST_CELLS = 7
"""Along one axis of any kernel."""


def convert_kernels(tensors: Mapping[str, Tensor], source: Layout, target: Layout) -> Tensors:
    """All five-dimensional tensors converted, all others as they are."""
    return {
        key: convert_kernel(value, source, target) if value.ndim == 5 else value
        for key, value in tensors.items()
    }


def _to_rsck(weight: Tensor) -> Tensor:
    """``(k, k, k, in, out)`` of spconv 2's kernel."""
    out, *cells, channels = weight.shape
    if cells == [1, 1, 1]:
        return weight.contiguous().view(1, 1, 1, channels, out)
    return weight.permute(1, 2, 3, 4, 0)


def _to_krsc(weight: Tensor) -> Tensor:
    """The kernel of spconv 2 from ``(k, k, k, in, out)``."""
    *cells, channels, out = weight.shape
    if cells == [1, 1, 1]:
        return weight.contiguous().view(out, 1, 1, 1, channels)
    return weight.permute(4, 0, 1, 2, 3).contiguous()
