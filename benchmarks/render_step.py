"""Times rendering with a field of signed distances: the field alone, whole training steps, and whole images.

``python benchmarks/render_step.py [--device cuda] [--compile] [--only NAME ...] [--threads N ...]
[--seconds S] [--json FILE]``

Sides differ in how the field's values, normals and their gradients are computed: ``ours`` by one operator,
``torch`` by ``torch.nn.functional.grid_sample`` and automatic differentiation with ``create_graph``, as the
published code does, ``gathers`` by eight gathers in its place, ``operators`` by our trilinear operators and
PyTorch's matrix products, and with ``--compile`` also ``compiled``, these by ``torch.compile``. Samplers,
compositing and losses are the same for all; they take a few percent. Results and gradients are compared
before anything is timed.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor
from torch.nn import functional

from renderpretrain import Rays, RaySamples, VoxelGrid, losses, ops
from renderpretrain.fields import InjectedMLP, SDFField
from renderpretrain.ops.injected_mlp import first_output_gradient, injected_layers
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import NeuSImportance

COLUMNS = ("workload", "threads", "ours ms", "peer", "peer ms", "ratio", "ours MB", "peer MB", "error")
TOLERANCE = 1e-2
"""Of the largest entry. PyTorch's coordinates, normalised to [-1, 1], are good to 1e-5 voxels in float32. The
networks' softplus(100 x) and the importance pass make 1e-3 of that; the field's own tests are sharper."""


def _plain(network: InjectedMLP, places: Tensor, inputs: Tensor) -> Tensor:
    """A network by PyTorch's matrix products."""
    return injected_layers(network.shape, network.weights(), places, inputs)[-1]


def _heads(field: SDFField, points: Tensor, rays: Rays, known: Tensor) -> tuple[Tensor, ...]:
    """Colour and embedding at every point, as the published code computes them."""
    colour, semantic, places = field.heads.colour, field.heads.semantic, points / field.extent
    directions = rays.directions.repeat_interleave(points.shape[1] // rays.shape[1], 1)
    found = []
    if colour is not None:
        found.append(torch.sigmoid(_plain(colour, places, torch.cat([directions, known], -1))))
    if semantic is not None:
        found.append(_plain(semantic, places, known))
    return tuple(found)


class Automatic(SDFField):
    """The field as the published code computes it; ``read(volume, points)`` interpolates."""

    read: Callable[[VoxelGrid, Tensor, Tensor], Tensor]

    def sdf(self, volume: Tensor, points: Tensor) -> Tensor:
        """The distance in metres."""
        read = type(self).read(self.grid, volume, points)[..., : self.distance.shape.in_channels]
        return _plain(self.distance, points / self.extent, read)[..., 0] * self.extent

    def _values(self, volume: Tensor, points: Tensor, rays: Rays, valid: Tensor) -> ops.FieldValues:
        trained = torch.is_grad_enabled()
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            read = type(self).read(self.grid, volume, points)
            out = _plain(self.distance, points / self.extent, read[..., : self.distance.shape.in_channels])
            sdf = out[..., 0] * self.extent
            (normals,) = torch.autograd.grad(sdf.sum(), points, create_graph=trained)
        features = read[..., self.channels // 2 if self.split else 0 :]
        known = torch.cat([features, normals, out[..., 1:]], -1)
        return ops.FieldValues(sdf, normals, None, None, _heads(self, points, rays, known))


def _native(grid: VoxelGrid, volume: Tensor, points: Tensor) -> Tensor:
    """PyTorch's own interpolation, whose corners are the outermost centres."""
    size = points.new_tensor(volume.shape[:1:-1])
    index = points * points.new_tensor(grid.scale) + points.new_tensor(grid.offset)
    places = (2 * index / (size - 1) - 1)[:, None, None]
    read = functional.grid_sample(volume.contiguous(), places, align_corners=True, padding_mode="zeros")
    return read[:, :, 0, 0].mT


def _gathers(grid: VoxelGrid, volume: Tensor, points: Tensor) -> Tensor:
    return ops.grid_sample_reference(volume, points, grid.scale, grid.offset)


class Native(Automatic):
    """By ``torch.nn.functional.grid_sample``."""

    read = _native


class Gathers(Automatic):
    """By eight gathers."""

    read = _gathers


class Operators(SDFField):
    """By our trilinear operators and PyTorch's matrix products, as on devices without the fused operator."""

    def _values(self, volume: Tensor, points: Tensor, rays: Rays, valid: Tensor) -> ops.FieldValues:
        read = self.grid.read(volume, points)
        width = self.distance.shape.in_channels
        shape, weights = self.distance.shape, self.distance.weights()
        outputs = injected_layers(shape, weights, points / self.extent, read[..., :width])
        by_points, by_read = first_output_gradient(shape, weights, outputs)
        by_read = functional.pad(by_read, (0, read.shape[-1] - width))
        normals = (
            ops.grid_sample_vjp(volume, points, by_read, self.grid.scale, self.grid.offset) * self.extent
        )
        normals = normals if by_points is None else by_points + normals
        out = outputs[-1]
        features = read[..., self.channels // 2 if self.split else 0 :]
        known = torch.cat([features, normals, out[..., 1:]], -1)
        heads = _heads(self, points, rays, known)
        return ops.FieldValues(out[..., 0] * self.extent, normals, None, None, heads)


SIDES = {"": SDFField, "torch": Native, "gathers": Gathers, "operators": Operators}
UNIPAD = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))
ROOM = VoxelGrid((-5.12, -5.12, -1.28, 5.12, 5.12, 1.28), (0.08, 0.08, 0.08))


def _street(cls: type[SDFField]) -> SDFField:
    """UniPAD's field."""
    return cls(UNIPAD, 32, extent=54.0)


def _room(cls: type[SDFField]) -> SDFField:
    """PonderV2's indoor field, without its 512 semantic channels."""
    sizes = {"hidden_channels": 128, "geometry_channels": 64, "sdf_blocks": 1, "rgb_blocks": 0}
    return cls(ROOM, 128, extent=5.12, split=True, positions=False, **sizes)


def _rays(count: int, device: str) -> Rays:
    """From the middle into all directions, somewhat flat, as a LiDAR's or a rig's."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.linspace(0, 2 * torch.pi, count + 1)[:-1]
    tilt = (torch.rand(count, generator=generator) - 0.6) * 0.1
    directions = torch.stack([angles.cos(), angles.sin(), tilt], -1)[None]
    return Rays(torch.zeros(1, count, 3, device=device), functional.normalize(directions, dim=-1).to(device))


def _volume(grid: VoxelGrid, channels: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(1, channels, *grid.shape, generator=generator).to(device)
    return values.contiguous(memory_format=torch.channels_last_3d).requires_grad_()


def _fields(make: Callable[[type[SDFField]], SDFField], device: str, compiles: bool) -> dict[str, SDFField]:
    """The same field on every side."""
    fields = {}
    for name, cls in (SIDES | ({"compiled": Operators} if compiles else {})).items():
        torch.manual_seed(0)
        fields[name] = make(cls).to(device)
    if compiles:
        fields["compiled"].compile()
    return fields


def _field_step(field: SDFField, volume: Tensor, rays: Rays, samples: RaySamples) -> measure.Results:
    """Distance, normal and what they take back to the volume and the networks, without heads."""
    answer = field(volume, rays, samples)
    assert answer.sdf is not None and answer.gradients is not None
    loss = answer.sdf.square().mean() + (answer.gradients.norm(dim=-1) - 1).square().mean()
    return loss, *torch.autograd.grad(loss, [volume, *field.distance.parameters()])


def _whole_step(field: SDFField, samples: tuple[int, int], volume: Tensor, rays: Rays) -> measure.Results:
    """Importance pass, field, colour, compositing, losses, and all the way back."""
    sampler = NeuSImportance(field, *samples, near=0.1)
    rendered = VolumeRenderer(field, sampler)(volume, rays, seeds=torch.tensor([0]))
    along = rendered.along
    assert along is not None and along.field.gradients is not None
    eikonal = losses.eikonal(along.field.gradients, along.samples.valid)
    loss = rendered.depth.mean() / 10 + rendered.rgb.square().mean() + 0.1 * eikonal
    trained = [volume, *(p for p in field.parameters())]
    return loss, *torch.autograd.grad(loss, trained)


@torch.no_grad()
def _image(field: SDFField, samples: tuple[int, int], volume: Tensor, rays: Rays) -> measure.Results:
    """Depth and colour of many pixels, in chunks of 4096."""
    renderer = VolumeRenderer(field, NeuSImportance(field, *samples, near=0.1))
    parts = []
    for first in range(0, rays.shape[1], 4096):
        chunk = Rays(rays.origins[:, first : first + 4096], rays.directions[:, first : first + 4096])
        rendered = renderer(volume, chunk, seeds=torch.tensor([0]))
        parts.append(torch.cat([rendered.depth[..., None], rendered.rgb], -1))
    return (torch.cat(parts, 1),)


def _workloads(device: str, compiles: bool) -> dict[str, tuple[dict[str, measure.Run], tuple[str, ...]]]:
    """Runs of every side by the workload's name, and sides that are left out."""
    found: dict[str, tuple[dict[str, measure.Run], tuple[str, ...]]] = {}
    volume, fields = _volume(UNIPAD, 32, device), partial(_fields, device=device, compiles=compiles)
    rays, streets = _rays(2048, device), fields(partial(_bare, _street))
    edges = torch.linspace(0.5, 53.0, 97, device=device)
    t_starts, t_ends = (part.expand(1, 2048, 96) for part in (edges[:-1], edges[1:]))
    samples = RaySamples(t_starts, t_ends, torch.ones(1, 2048, 96, dtype=torch.bool, device=device))
    found["field, normal, backward, 2048 rays"] = (
        {name: partial(_field_step, field, volume, rays, samples) for name, field in streets.items()},
        (),
    )
    streets = fields(_street)
    for count, left_out in ((2048, ()), (4096, ("gathers",)), (16384, ("torch", "gathers", "operators"))):
        found[f"whole step, {count} rays"] = (
            {
                name: partial(_whole_step, field, (72, 24), volume, _rays(count, device))
                for name, field in streets.items()
            },
            left_out,
        )
    room = _volume(ROOM, 128, device)
    found["PonderV2 indoor, 1024 rays"] = (
        {
            name: partial(_whole_step, field, (96, 36), room, _rays(1024, device))
            for name, field in fields(_room).items()
        },
        (),
    )
    found["image without gradient, 16384 pixels"] = (
        {
            name: partial(_image, field, (72, 24), volume.detach(), _rays(16384, device))
            for name, field in streets.items()
        },
        ("gathers",),
    )
    return found


def _bare(make: Callable[[type[SDFField]], SDFField], cls: type[SDFField]) -> SDFField:
    """A field without colour."""
    field = make(cls)
    field.heads.colour = None
    return field


def _rows(
    name: str, runs: dict[str, measure.Run], left_out: tuple[str, ...], seconds: float
) -> list[dict[str, Any]]:
    """One row per peer, after all have been compared."""
    runs = {side: run for side, run in runs.items() if side not in left_out}
    expected, errors = runs[""](), {}
    for side, run in runs.items():
        errors[side] = measure.relative_error(expected, run()) if side else 0.0
        if errors[side] > TOLERANCE:
            raise measure.UnequalError(f"{name}: {side} differs by {errors[side]:.1e}")
    device = expected[0].device.type
    times = measure.medians(runs, device, seconds, 3)
    peaks = {side: measure.peak_megabytes(run, device) for side, run in runs.items()}
    return [
        {
            "workload": name,
            "threads": torch.get_num_threads(),
            "ours ms": round(times[""], 1),
            "peer": side or "-",
            "peer ms": round(times[side], 1),
            "ratio": round(times[side] / times[""], 2),
            "ours MB": round(peaks[""]),
            "peer MB": round(peaks[side]),
            "error": f"{errors[side]:.0e}",
        }
        for side in runs
        if side or len(runs) == 1
    ]


def _measured(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of the workloads that are asked for."""
    for name, (runs, left_out) in _workloads(chosen.device, chosen.compile).items():
        if any(part in name for part in chosen.only):
            yield from _rows(name, runs, left_out, chosen.seconds)


def main() -> None:
    """Compare, time and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of workloads")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="beside torch.compile of plain operators, too")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=5.0, help="per side and workload")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    chosen = parser.parse_args()
    rows = []
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        with measure.own_stream(chosen.device):
            for row in _measured(chosen):
                print("| " + " | ".join(str(row[column]) for column in COLUMNS) + " |", flush=True)
                rows.append(row)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
