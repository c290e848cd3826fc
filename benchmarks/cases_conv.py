"""Convolutions: sparse ones on a street scan, with tables, layers and whole encoders; and small volumes."""

import importlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from measure import Case, Run, as_tuple, forward, gradients
from torch import Tensor, nn

from renderpretrain import VoxelGrid, ops
from renderpretrain.encoders import SparseEncoder, SparseTensor, VoxelBackBone8x, spconv_status, voxelize
from renderpretrain.ops.conv3d import Conv3d
from renderpretrain.training.loop import exact_convolutions

SPARSE = ("submanifold_neighbors", "strided_neighbors", "strided_chain", "sparse_conv3d", "sparse_encoder")
OPERATORS = (*SPARSE, "small_volume")

Triple = tuple[int, int, int]
K3, ONE, TWO, ONE_HIGH = (3, 3, 3), (1, 1, 1), (2, 2, 2), (1, 3, 3)
PRECISIONS = {"": (torch.float32, 1e-4), "TF32": (torch.float32, 5e-3), "bf16": (torch.bfloat16, 2e-2)}
"""What a GPU's convolutions multiply: how numbers are stored, and how far a result may be from float32's."""
SMALL_VOLUMES = ((32, (11, 32, 32), ONE_HIGH), (64, (11, 16, 16), ONE_HIGH), (32, (8, 32, 32), K3))
"""Channels, cells and kernels: two branches of UniPAD's neck in a box of 25.6 m, and a layer all around."""
TINY = {"channels": ((16, 32), (32, 32)), "strides": (TWO,), "paddings": (ONE,)}


def cases(device: str, quick: bool) -> Iterator[Case]:
    """A sweep in nuScenes' paper grid (0.075 x 0.075 x 0.2 m), at every level of its encoders; volumes."""
    for sizes in SMALL_VOLUMES if device == "cpu" else ():
        yield from _small_volume(*sizes)
    size, count = ((0.6, 0.6, 0.2), 1 << 13) if quick else ((0.075, 0.075, 0.2), 1 << 17)
    fine = street_scan(size, count, device)
    yield _chain(fine)
    widths = (16, 32, 64, 128)
    x = fine
    for width, wider in zip(widths, (*widths[1:], None), strict=True):
        yield from _neighbors(x)
        for precision in PRECISIONS if device != "cpu" else ("",):
            yield from _layer("submanifold", x, width, width, precision)
        if wider is not None:
            yield from _layer("strided", x, width, wider)
            yield from _layer("inverse", x, wider, width)
            coords, _, _ = ops.strided_neighbors(x.coords, _volume(x), K3, TWO, ONE)
            z, y, w = (-(-n // 2) for n in x.spatial_shape)
            x = SparseTensor(coords.float(), coords, (z, y, w), 1)
    tiny = street_scan((0.4, 0.4, 0.4), 1 << 14, device)
    yield from _encoder(
        "tiny SparseEncoder", lambda backend: SparseEncoder(5, 32, backend=backend, **TINY), tiny
    )
    yield from _encoder("VoxelBackBone8x", lambda backend: VoxelBackBone8x(5, backend=backend), fine)
    yield from _encoder("SparseEncoder", lambda backend: SparseEncoder(5, backend=backend), fine)


def street_scan(size: tuple[float, float, float], count: int, device: str) -> SparseTensor:
    """What 64 beams from 1.8 m above a road see of it and of walls and cars beside it."""
    generator = torch.Generator().manual_seed(0)
    azimuth = torch.linspace(0, 2 * torch.pi, count // 64)
    elevation = torch.linspace(-0.43, 0.05, 64)[:, None]
    steps = torch.arange(len(azimuth)) // 16 % 7
    walls = 7 / azimuth.sin().abs().clamp(min=0.08) * (1 + 0.25 * steps)
    ground = 1.8 / (-elevation).clamp(min=1e-3).tan()
    distance = torch.minimum(walls.expand(64, -1), ground)
    distance = distance + 0.02 * torch.randn(distance.shape, generator=generator)
    height = (distance * elevation.tan()).expand_as(distance)
    points = torch.stack([distance * azimuth.cos(), distance * azimuth.sin(), height], -1).view(-1, 3)
    points = torch.cat([points, torch.rand(len(points), 2, generator=generator)], 1)[None].to(device)
    grid = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), size)
    return voxelize(points, torch.ones_like(points[..., 0], dtype=torch.bool), grid).to_sparse()


def _volume(x: SparseTensor) -> tuple[int, int, int, int]:
    return (x.batch_size, *x.spatial_shape)


def _spconv(device: torch.device) -> Any:
    """``spconv.pytorch`` with its functions, where it works on a device."""
    if not spconv_status(device)["ok"]:
        return None
    importlib.import_module("spconv.pytorch.functional")
    return importlib.import_module("spconv.pytorch")


def _indice_pairs(x: SparseTensor, kind: str) -> Any:
    """What spconv finds: voxels, pairs, number of pairs."""
    spconv, subm = _spconv(x.coords.device), kind == "submanifold"
    stride = ONE if subm else TWO
    coords = x.coords.int().contiguous()
    algo = spconv.ConvAlgo.Native
    sizes = [list(triple) for triple in (K3, stride, ONE, ONE, (0, 0, 0))]
    return spconv.ops.get_indice_pairs(coords, 1, list(x.spatial_shape), algo, *sizes, subm=subm)


def _neighbors(x: SparseTensor) -> Iterator[Case]:
    volume, num = _volume(x), len(x.coords)
    subm = (x.coords, volume, K3)
    strided = (*subm, TWO, ONE)
    num_out = len(ops.strided_neighbors(*strided)[0])
    for kind, arguments, num_bytes in (
        ("submanifold", subm, 4 * (4 + 27) * num),
        ("strided", strided, 4 * (4 + 27) * (num + num_out)),
    ):
        op = f"{kind}_neighbors"
        ours, reference = (
            lambda name=name, arguments=arguments: as_tuple(getattr(ops, name)(*arguments))
            for name in (op, f"{op}_reference")
        )
        peers: dict[str, Run] = {"reference": reference}
        if x.coords.device.type == "cpu" and _spconv(x.coords.device):
            peers["spconv"] = partial(_indice_pairs, x, kind)
        # spconv lists pairs instead of filling tables.
        yield Case(
            op, "forward", f"{num} voxels", ours, peers, num_bytes, tolerance=0, not_compared=("spconv",)
        )


def _chain(x: SparseTensor) -> Case:
    """The three strided convolutions of an encoder, whose numbers of outputs are read once."""
    arguments = x.coords, _volume(x), [(K3, TWO, ONE)] * 3
    ours, reference = (
        lambda run=run: [table for tables in run(*arguments) for table in tables]
        for run in (ops.strided_chain, ops.strided_chain_reference)
    )
    num_bytes = 4 * (4 * len(x.coords) + sum(table.numel() for table in ours()))
    peers: dict[str, Run] = {"reference": reference, "one by one": lambda: _one_by_one(x, 3)}
    return Case(
        "strided_chain", "forward", f"3 from {len(x.coords)} voxels", ours, peers, num_bytes, tolerance=0
    )


def _one_by_one(x: SparseTensor, num: int) -> list[Tensor]:
    """The tables of as many convolutions by :func:`ops.strided_neighbors`."""
    found, coords, shape = list[Tensor](), x.coords, _volume(x)
    for _ in range(num):
        coords, inputs, outputs = ops.strided_neighbors(coords, shape, K3, TWO, ONE)
        found += [coords, inputs, outputs]
        b, z, y, w = shape
        shape = (b, -(-z // 2), -(-y // 2), -(-w // 2))
    return found


def _rounding(run: Run, precision: str) -> Run:
    """A pass whose float32 products are exact, or rounded as TF32."""

    def run_so() -> Any:
        with exact_convolutions(precision != "TF32"):
            return run()

    return run_so


def _layer(kind: str, x: SparseTensor, channels: int, width: int, precision: str = "") -> Iterator[Case]:
    """One 3x3x3 convolution over tables made before."""
    if kind == "submanifold":
        inputs, outputs = ops.submanifold_neighbors(x.coords, _volume(x), K3), None
    else:
        _, inputs, outputs = ops.strided_neighbors(x.coords, _volume(x), K3, TWO, ONE)
        inputs, outputs = (inputs, outputs) if kind == "strided" else (outputs, inputs)
    num_in, num_out = (outputs if outputs is not None else inputs).shape[1], inputs.shape[1]
    dtype, tolerance = PRECISIONS[precision]
    features = torch.randn(num_in, channels, device=inputs.device).to(dtype).requires_grad_()
    weight = torch.randn(width, *K3, channels, device=inputs.device).div(27**0.5).to(dtype).requires_grad_()
    kernel = lambda: weight.flatten(1, 3).permute(1, 2, 0)  # noqa: E731
    runs = {
        "": lambda: ops.sparse_conv3d(features, kernel(), inputs, outputs),
        "reference": lambda: ops.sparse_conv3d_reference(features, kernel(), inputs, outputs),
    }
    # On a GPU spconv's own layers run by another algorithm; whole encoders compare those.
    if inputs.device.type == "cpu" and _spconv(inputs.device):
        runs["spconv"] = _spconv_layer(kind, x, features, weight, num_out)
    shape = f"{kind} {channels}->{width}, {num_in}->{num_out} voxels" + f", {precision}" * bool(precision)
    num_flops = 2 * int((inputs >= 0).sum()) * channels * width
    stored = features.element_size() * (features.numel() + weight.numel())
    num_bytes = stored + 4 * (inputs.numel() + num_out * width)
    # spconv has the rows of a strided convolution in another order; tests/encoders compares the results.
    apart = () if kind == "submanifold" else ("spconv",)
    for stage, factor, sides in (
        ("forward", 1, {name: forward(run, ()) for name, run in runs.items()}),
        ("backward", 2, {name: gradients((run(),), (features, weight)) for name, run in runs.items()}),
    ):
        work = factor * num_bytes, factor * num_flops
        ours = _rounding(sides.pop(""), precision)
        yield Case("sparse_conv3d", stage, shape, ours, sides, *work, tolerance, not_compared=apart)


def _spconv_layer(
    kind: str, x: SparseTensor, features: Tensor, weight: Tensor, num_out: int
) -> Callable[[], Tensor]:
    spconv = _spconv(features.device)
    _, pairs, num_pairs = _indice_pairs(x, kind)
    names = {"submanifold": "indice_subm_conv", "strided": "indice_conv", "inverse": "indice_inverse_conv"}
    function = getattr(spconv.functional, names[kind])
    algo = spconv.ConvAlgo.Native
    return lambda: function(features, weight, pairs, num_pairs, num_out, algo)


def _encoder(name: str, build: Callable[[Any], nn.Module], x: SparseTensor) -> Iterator[Case]:
    """With the search for neighbours, norms and the dense volume at the end."""
    torch.manual_seed(0)
    backends = ["builtin"] + (["spconv"] if _spconv(x.features.device) else [])
    encoders = {backend: build(backend).to(x.features.device) for backend in backends}
    for encoder in encoders.values():
        encoder.load_state_dict(encoders["builtin"].state_dict())

    def training(encoder: nn.Module) -> Run:
        return lambda: torch.autograd.grad(encoder(x).mean(), list(encoder.parameters()))

    shape = f"{name}, {len(x.coords)} voxels"
    # Rounding puts inputs of rectifiers on either side of zero and switches gradients: against float64 both
    # backends are off by up to 1e-2.
    for stage, tolerance, runs in (
        ("forward", 1e-4, {name: forward(lambda e=e: e(x), ()) for name, e in encoders.items()}),
        ("forward+backward", 3e-2, {name: training(encoder) for name, encoder in encoders.items()}),
    ):
        ours = _rounding(runs.pop("builtin"), "")
        yield Case("sparse_encoder", stage, shape, ours, runs, 0, tolerance=tolerance)


def _small_volume(channels: int, sides: Triple, kernel: Triple) -> Iterator[Case]:
    """A convolution of one volume that PyTorch has no fast kernel for on a CPU."""
    torch.manual_seed(0)
    padding = [size // 2 for size in kernel]
    layers = [layer(channels, channels, kernel, padding=padding) for layer in (Conv3d, nn.Conv3d)]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(1, channels, *sides, requires_grad=True)
    shape = f"{channels}->{channels}, {kernel[0]}x{kernel[1]}x{kernel[2]}, {sides[0]}x{sides[1]}x{sides[2]}"
    num_bytes = 4 * (2 * x.numel() + layers[0].weight.numel())
    num_flops = 2 * x.numel() * channels * math.prod(kernel)
    for stage, factor, sides_of in (
        ("forward", 1, [forward(partial(layer, x), ()) for layer in layers]),
        ("backward", 2, [gradients((layer(x),), (x, *layer.parameters())) for layer in layers]),
    ):
        ours, torchs = sides_of
        work = factor * num_bytes, factor * num_flops
        # Weights' gradients are sums over 10 000 cells, in another order.
        yield Case("small_volume", stage, shape, ours, {"torch": torchs}, *work, 1e-4)
