"""Opacity and compositing: from distances and values at samples to one value per ray."""

from collections.abc import Callable, Iterator

import torch
from measure import Case, Function, Results, both_passes, installed
from torch import Tensor

from renderpretrain import ops

OPERATORS = ("neus_alphas", "composite", "accumulate", "composite_values", "neus_render")

SHARPNESS = 20.0
SHAPES = ((2048, 6), (4096, 19), (4096, 64), (512, 512), (4096, 3))
HALF_SHAPE, HALF = (4096, 64), (torch.bfloat16, torch.float16)
NUM_SAMPLES = 96


def cases(device: str, quick: bool) -> Iterator[Case]:
    """Rays of 96 samples that meet a wall, with colour, classes or features on them."""
    share = 16 if quick else 1
    for num_rays in sorted({num_rays for num_rays, _ in SHAPES}):
        yield from _weights(_rays(num_rays // share, 0, device))
    for num_rays, channels in SHAPES:
        rays = _rays(num_rays // share, channels, device)
        yield from _sums(rays)
        if (num_rays, channels) == HALF_SHAPE:
            for dtype in HALF:
                values = rays["values"].detach().to(dtype).requires_grad_()
                yield from _renders({**rays, "values": values})


def _rays(num_rays: int, channels: int, device: str) -> dict[str, Tensor]:
    """Distances to walls some 25 m away, the samples every half metre."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    deltas = 0.4 + 0.2 * random(num_rays, NUM_SAMPLES)
    t = deltas.cumsum(-1)
    found = {
        "sdf": (15 + 20 * random(num_rays, 1) - t) * 0.8 + 0.05 * random(num_rays, NUM_SAMPLES),
        "cosines": -0.9 + 0.2 * random(num_rays, NUM_SAMPLES),
        "deltas": deltas,
        "t": t,
        "inv_s": torch.tensor(SHARPNESS),
        "values": random(num_rays, NUM_SAMPLES, channels),
    }
    return {name: tensor.to(device).requires_grad_(name != "t") for name, tensor in found.items()}


def _passes(
    op: str,
    rays: dict[str, Tensor],
    functions: dict[str, Function],
    inputs: Results,
    sample_arrays: tuple[int, int],
    tolerances: tuple[float, float] = (1e-4, 1e-4),
) -> Iterator[Case]:
    """The forward pass alone, and with the gradients by all arguments.

    ``sample_arrays`` counts the arrays of one number per sample that each of the two touches at least; of
    values forward reads one array, and backward reads and writes one more.
    """
    values = rays["values"]
    with_values = any(tensor is values for tensor in inputs)
    shape = f"{values.shape[0]}x{values.shape[1]}" + (f", C={values.shape[2]}" if with_values else "")
    if values.dtype != torch.float32:
        shape += f", {str(values.dtype).removeprefix('torch.')}"
    sides = {name: (function, inputs) for name, function in functions.items()}
    sample = 4 * rays["sdf"].numel()
    value = values.element_size() * values.numel() if with_values else 0
    num_bytes = sample_arrays[0] * sample + value, sample_arrays[1] * sample + 3 * value
    yield from both_passes(op, shape, sides, num_bytes, tolerances=tolerances)


def _weights(rays: dict[str, Tensor]) -> Iterator[Case]:
    """What needs no values: opacities, and their weights."""
    inputs = tuple(rays[name] for name in ("sdf", "cosines", "deltas", "inv_s"))
    laws: dict[str, Function] = {"": ops.neus_alphas, "reference": ops.neus_alphas_reference}
    yield from _passes("neus_alphas", rays, laws, inputs, (4, 8))
    products: dict[str, Function] = {"": ops.composite, "reference": ops.composite_reference}
    nerfacc = installed("nerfacc")
    if nerfacc:
        products["nerfacc"] = lambda alphas: nerfacc.render_weight_from_alpha(alphas)[0]
    yield from _passes("composite", rays, products, _alphas_and_weights(rays)[:1], (2, 5))


def _alphas_and_weights(rays: dict[str, Tensor]) -> Results:
    with torch.no_grad():
        alphas = ops.neus_alphas(*(rays[name] for name in ("sdf", "cosines", "deltas", "inv_s")))
        weights = ops.composite(alphas)
    return alphas.requires_grad_(), weights.requires_grad_()


def _sums(rays: dict[str, Tensor]) -> Iterator[Case]:
    """With weights that are there, and with all that leads to them."""
    sums: dict[str, Function] = {
        "": ops.accumulate,
        "chain": _product_sum,
        "torch": _matrix_sum,
    }
    nerfacc = installed("nerfacc")
    if nerfacc:
        sums["nerfacc"] = nerfacc.accumulate_along_rays
    yield from _passes("accumulate", rays, sums, (_alphas_and_weights(rays)[1], rays["values"]), (1, 4))
    yield from _renders(rays)


def _renders(rays: dict[str, Tensor]) -> Iterator[Case]:
    """All that is seen along a ray, in one go."""
    sdf, cosines, deltas, t, inv_s, values = rays.values()
    # Gradients by values in half precision are rounded to it.
    tolerances = (1e-4, 1e-4 if values.dtype == torch.float32 else 1e-2)
    composites: dict[str, Function] = {
        "": ops.composite_values,
        "chain": lambda *a: _composite(*a, _product_sum),
        "torch": lambda *a: _composite(*a, _matrix_sum),
    }
    if installed("nerfacc"):
        composites["nerfacc"] = _nerfacc_composite
    samples = _alphas_and_weights(rays)[0], values, t.detach().requires_grad_()
    yield from _passes("composite_values", rays, composites, samples, (3, 7), tolerances)
    renders: dict[str, Function] = {
        "": lambda *a: ops.neus_render(*a[:3], t, *a[3:]),
        "chain": lambda *a: _composite(ops.neus_alphas_reference(*a[:4]), a[4], t, _product_sum),
        "torch": lambda *a: _composite(ops.neus_alphas_reference(*a[:4]), a[4], t, _matrix_sum),
    }
    inputs = sdf, cosines, deltas, inv_s, values
    yield from _passes("neus_render", rays, renders, inputs, (5, 12), tolerances)


def _matrix_sum(weights: Tensor, values: Tensor) -> Tensor:
    """As a product of matrices, which stores no product of weight and value."""
    return (weights[..., None, :] @ values.float())[..., 0, :]


def _product_sum(weights: Tensor, values: Tensor) -> Tensor:
    """As the published systems write it."""
    return (weights[..., None] * values.float()).sum(-2)


def _composite(
    alphas: Tensor, values: Tensor, t: Tensor, accumulate: Callable[[Tensor, Tensor], Tensor]
) -> Results:
    weights = ops.composite_reference(alphas)
    opacity = weights.sum(-1)
    depth = (weights * t).sum(-1) / (opacity + 1e-10)
    return accumulate(weights, values), depth, opacity, weights


def _nerfacc_composite(alphas: Tensor, values: Tensor, t: Tensor) -> Results:
    nerfacc = installed("nerfacc")
    weights, _ = nerfacc.render_weight_from_alpha(alphas)
    opacity = nerfacc.accumulate_along_rays(weights)[..., 0]
    depth = nerfacc.accumulate_along_rays(weights, t[..., None])[..., 0] / (opacity + 1e-10)
    return nerfacc.accumulate_along_rays(weights, values), depth, opacity, weights
