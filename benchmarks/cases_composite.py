"""Opacity and compositing: from distances and values at samples to one value per ray."""

from collections.abc import Callable, Iterator

import torch
from measure import Case, Results
from torch import Tensor

from renderpretrain import ops

SHARPNESS = 20.0
SHAPES = ((2048, 6), (4096, 19), (4096, 64), (512, 512), (4096, 3))
NUM_SAMPLES = 96


def cases(device: str, quick: bool) -> Iterator[Case]:
    """Rays of 96 samples that meet a wall, with colour, classes or features on them."""
    for num_rays, channels in SHAPES:
        rays = _rays(num_rays // 16 if quick else num_rays, channels, device)
        yield from _passes(rays)


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
    return {name: tensor.to(device) for name, tensor in found.items()}


def _passes(rays: dict[str, Tensor]) -> Iterator[Case]:
    sdf, cosines, deltas, t, inv_s, values = rays.values()
    num_rays, num_samples, channels = values.shape
    alphas = ops.neus_alphas(sdf, cosines, deltas, inv_s)
    weights = ops.composite(alphas)
    shape = f"{num_rays}x{num_samples}, C={channels}"
    sample, value = 4 * sdf.numel(), 4 * values.numel()
    laws = (ops.neus_alphas, {"reference": ops.neus_alphas_reference})
    yield from _both("neus_alphas", shape, laws, (sdf, cosines, deltas, inv_s), (4, 8), sample)
    sums = (
        ops.accumulate,
        {"reference": ops.accumulate_reference, "torch": _matrix_sum, **_nerfacc_sum()},
    )
    yield from _both("accumulate", shape, sums, (weights, values), (1, 4), sample, value)
    composites = (
        ops.composite_values,
        {"reference": ops.composite_values_reference, "torch": _matrix_composite, **_nerfacc()},
    )
    yield from _both("composite_values", shape, composites, (alphas, values, t), (3, 7), sample, value)
    renders = (
        lambda *a: ops.neus_render(*a[:3], t, *a[3:]),
        {
            "reference": lambda *a: ops.neus_render_reference(*a[:3], t, *a[3:]),
            "torch": lambda *a: _matrix_composite(ops.neus_alphas_reference(*a[:4]), a[4], t),
        },
    )
    arguments = (sdf, cosines, deltas, inv_s, values)
    yield from _both("neus_render", shape, renders, arguments, (5, 12), sample, value)


def _both(  # noqa: PLR0913  a case has as many parts
    op: str,
    shape: str,
    functions: tuple[Callable[..., Results], dict[str, Callable[..., Results]]],
    arguments: tuple[Tensor, ...],
    sample_arrays: tuple[int, int],
    sample: int,
    value: int = 0,
) -> Iterator[Case]:
    """The forward pass alone, and with the gradients by all arguments.

    ``sample_arrays`` counts the arrays of one number per sample that each of the two touches at least; of
    values forward reads one array, and backward reads and writes one more.
    """
    ours, peers = functions
    sides = {"": ours, **peers}
    for stage, run, arrays, passes in (
        ("forward", _forward, sample_arrays[0], 1),
        ("forward+backward", _forward_backward, sample_arrays[1], 3),
    ):
        runs = {name: run(function, arguments) for name, function in sides.items()}
        yield Case(op, stage, shape, runs.pop(""), runs, arrays * sample + passes * value)


def _tuple(results: Tensor | Results) -> Results:
    return (results,) if isinstance(results, Tensor) else tuple(results)


def _forward(function: Callable[..., Results], arguments: tuple[Tensor, ...]) -> Callable[[], Results]:
    def run() -> Results:
        with torch.no_grad():
            return _tuple(function(*arguments))

    return run


def _forward_backward(
    function: Callable[..., Results], arguments: tuple[Tensor, ...]
) -> Callable[[], Results]:
    leaves = tuple(argument.detach().requires_grad_() for argument in arguments)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        outputs = _tuple(function(*leaves))
    cotangents = tuple(torch.randn(o.shape, generator=generator).to(o.device) for o in outputs)

    def run() -> Results:
        return torch.autograd.grad(_tuple(function(*leaves)), leaves, cotangents)

    return run


def _matrix_sum(weights: Tensor, values: Tensor) -> Tensor:
    """As a product of matrices, which stores no product of weight and value."""
    return (weights[..., None, :] @ values)[..., 0, :]


def _matrix_composite(alphas: Tensor, values: Tensor, t: Tensor) -> Results:
    weights = ops.composite_reference(alphas)
    opacity = weights.sum(-1)
    depth = (weights * t).sum(-1) / (opacity + 1e-10)
    return _matrix_sum(weights, values), depth, opacity, weights


def _nerfacc_sum() -> dict[str, Callable[..., Tensor]]:
    try:
        import nerfacc
    except Exception:  # not installed, or built for another torch
        return {}
    return {"nerfacc": nerfacc.accumulate_along_rays}


def _nerfacc() -> dict[str, Callable[..., Results]]:
    try:
        import nerfacc
    except Exception:  # not installed, or built for another torch
        return {}

    def render(alphas: Tensor, values: Tensor, t: Tensor) -> Results:
        weights, _ = nerfacc.render_weight_from_alpha(alphas)
        opacity = nerfacc.accumulate_along_rays(weights)[..., 0]
        depth = nerfacc.accumulate_along_rays(weights, t[..., None])[..., 0] / (opacity + 1e-10)
        return nerfacc.accumulate_along_rays(weights, values), depth, opacity, weights

    return {"nerfacc": render}
