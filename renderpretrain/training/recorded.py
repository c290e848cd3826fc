"""Passes of a step recorded as a CUDA graph and replayed: the kernels, without the host that starts them."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from renderpretrain.data import Batch
from renderpretrain.data.scene import Boxes, with_tensors
from renderpretrain.encoders import SparseConv3d, SubMConv3d
from renderpretrain.geometry import Points, VoxelGrid
from renderpretrain.lifters import BEVFormerLifter
from renderpretrain.recipes.settings import OptimizationConfig

POINTS, BOXES = 16384, 16
"""Batches are padded to a multiple of so many points and boxes, so that few shapes occur."""

WARM_UP = 3
"""Passes of each shape that run as they are, in which algorithms are chosen and constants made."""

MOST_GRAPHS = 4
"""Shapes whose graphs are kept, the latest; each has memory of its own for all that a step computes."""

Terms = dict[str, Tensor]
Replay = Callable[[], object]


def record(passes: Callable[[], list[Tensor]]) -> tuple[list[Tensor], Replay]:
    """Record what a GPU is told to do; what replaying it computes is found in the same tensors."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        results = passes()
    return results, graph.replay


@dataclass(frozen=True)
class Recording:
    """Passes of one shape of a batch.

    Attributes:
        batch: What is read; the numbers of a step are copied there.
        names: Of the loss terms.
        terms: Their values, where a replay leaves them.
        gradients: Of every parameter that has one, by its place, likewise.
        replay: Does it again.
        places: Where in memory weights and buffers were.
    """

    batch: Batch
    names: tuple[str, ...]
    terms: list[Tensor]
    gradients: dict[int, Tensor]
    replay: Replay
    places: tuple[int, ...]


class RecordedPasses:
    """Forward and backward pass of a recipe on a batch, recorded once for every shape of a batch.

    Random numbers differ from step to step as ever: they follow from the batch's seeds and from the device's
    generator, which a replay reads.

    Args:
        model: Its parameters have their gradients after a call.
        passes: ``passes(batch) -> {term: scalar}``, both passes; adds to no gradient.
        record: Records a function; ``record`` of this module, but in tests without a GPU.
    """

    def __init__(
        self,
        model: nn.Module,
        passes: Callable[[Batch], Terms],
        record: Callable[[Callable[[], list[Tensor]]], tuple[list[Tensor], Replay]] = record,
    ) -> None:
        self.model, self.passes, self.record = model, passes, record
        self.parameters = list(model.parameters())
        self.seen, self.known = Counter[Any](), dict[Any, Recording]()
        # One stream for all passes: a recording may not lead to what was made on another one.
        self.stream = torch.cuda.Stream() if self.parameters[0].is_cuda else None

    def __call__(self, batch: Batch) -> Terms:
        """Loss terms, without a gradient, and the gradients of the sum at the parameters.

        Raises:
            ValueError: If the host waits for the device within the passes, which nothing recorded can.
        """
        batch = padded(batch)
        shape = shape_of(batch)
        with self._own_stream():
            self.seen[shape] += 1
            if self.seen[shape] <= WARM_UP:
                with without_waits() if self.seen[shape] == WARM_UP else nullcontext():
                    return self._fresh(batch)
            if shape not in self.known or self.known[shape].places != self._places():
                self._remember(shape, batch)
            return self._replayed(self.known[shape], batch)

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Run what is inside on the stream of the passes, after and before all else."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream().wait_stream(self.stream)

    def _fresh(self, batch: Batch) -> Terms:
        """The passes as they are."""
        for parameter in self.parameters:
            parameter.grad = None
        return {name: value.detach() for name, value in self.passes(batch).items()}

    def _remember(self, shape: Any, batch: Batch) -> None:
        """Record the passes on a copy of the batch."""
        self.known.pop(shape, None)
        if len(self.known) >= MOST_GRAPHS:
            self.known.pop(next(iter(self.known)))
        kept, names, with_gradient = with_tensors(batch, Tensor.clone), list[str](), list[int]()

        def passes() -> list[Tensor]:
            terms = self._fresh(kept)
            names[:] = terms
            with_gradient[:] = [k for k, p in enumerate(self.parameters) if p.grad is not None]
            grads = [self.parameters[k].grad for k in with_gradient]
            return [*terms.values(), *(grad for grad in grads if grad is not None)]

        results, replay = self.record(passes)
        terms, grads = results[: len(names)], results[len(names) :]
        gradients = dict(zip(with_gradient, grads, strict=True))
        self.known[shape] = Recording(kept, tuple(names), terms, gradients, replay, self._places())

    def _replayed(self, found: Recording, batch: Batch) -> Terms:
        """The passes of a recording on the numbers of a batch."""
        for kept, given in zip(tensors_of(found.batch), tensors_of(batch), strict=True):
            kept.copy_(given, non_blocking=True)
        found.replay()
        for place, parameter in enumerate(self.parameters):
            parameter.grad = found.gradients.get(place)
        return {name: value.clone() for name, value in zip(found.names, found.terms, strict=True)}

    def _places(self) -> tuple[int, ...]:
        """Where in memory weights and buffers are: a recording reads them there."""
        return tuple(tensor.data_ptr() for tensor in (*self.parameters, *self.model.buffers()))


def check_recordable(recipe: nn.Module, optimization: OptimizationConfig, processes: int) -> None:
    """Raise ``ValueError`` where steps are to be recorded and cannot be.

    A recorded step has one shape. Where there are voxels their number decides what follows, and in BEVFormer
    the number of pillars that a camera sees.
    """
    if not optimization.cuda_graph:
        return
    moving = SubMConv3d | SparseConv3d | BEVFormerLifter
    layer = next((name for name, part in recipe.named_modules() if isinstance(part, moving)), None)
    if layer is not None:
        raise ValueError(
            f"optimization.cuda_graph: expected a recipe whose steps have one shape, but what {layer} gives "
            "has as many rows as there are voxels, or pillars in sight; unipad-camera, ns-mae with "
            "modality=camera and uniscene with lifter=lss have neither"
        )
    if processes > 1 or optimization.accumulate > 1:
        raise ValueError(
            "optimization.cuda_graph: expected one process and optimization.accumulate=1, got "
            f"{processes} and {optimization.accumulate}"
        )


@contextmanager
def without_waits() -> Iterator[None]:
    """Raise ``ValueError`` with the place where the host would wait for a GPU."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        raise ValueError(
            "optimization.cuda_graph: expected a step that waits for nothing, but the host waits for the GPU "
            f"at {own[-1].filename}, line {own[-1].lineno}"
        ) from error
    finally:
        torch.cuda.set_sync_debug_mode("default")


def padded(batch: Batch) -> Batch:
    """The batch with room for more points and boxes, so that scenes of other sizes have the same shape."""
    points = _with_rows(batch.points, -len(batch.points.xyz[0]) % POINTS, ("origin",))
    boxes = batch.boxes
    if boxes is not None:
        if boxes.valid is None:
            boxes = replace(boxes, valid=torch.ones_like(boxes.labels, dtype=torch.bool))
        boxes = _with_rows(boxes, -boxes.labels.shape[1] % BOXES, ())
    previous, following = (tuple(map(padded, moments)) for moments in (batch.previous, batch.following))
    return replace(batch, points=points, boxes=boxes, previous=previous, following=following)


def _with_rows(table: Points | Boxes, count: int, left: tuple[str, ...]) -> Any:
    """Points or boxes with so many more that are not valid; what is ``left`` has no rows."""
    changed = dict[str, Any]()
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, Tensor) and field.name not in left:
            axes = [0, 0] * (value.dim() - 2)
            changed[field.name] = pad(value, (*axes, 0, count), value=-1 if field.name == "labels" else 0)
    return replace(table, **changed)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor of a batch, always in the same order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors_of(item)
    elif is_dataclass(value) and not isinstance(value, VoxelGrid):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))


def shape_of(value: Any) -> Any:
    """What recorded passes depend on beside the numbers: shapes, types, and what is no tensor, but names."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, tuple):
        return tuple(map(shape_of, value))
    if is_dataclass(value) and not isinstance(value, VoxelGrid):
        return tuple(shape_of(getattr(value, f.name)) for f in fields(value) if f.name != "names")
    return value
