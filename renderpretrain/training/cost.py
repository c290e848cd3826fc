"""What a training step costs, told without running it: weights, arithmetic, memory."""

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from renderpretrain.data import Batch
from renderpretrain.geometry import Views
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.training.flops import flops_of
from renderpretrain.training.loop import runs_in_bfloat16


@dataclass(frozen=True)
class StepCost:
    """What one forward and backward pass on a batch costs, and the optimiser with it.

    Attributes:
        forward_flops: Floating-point operations of the forward pass; a multiply-add counts two. Counted are
            matrix products, convolutions and reads of volumes and maps, not what works element by element.
        step_flops: The same with the backward pass, second derivatives and repeated parts included.
        weights: Bytes of parameters and buffers.
        gradients: Bytes of the trainable parameters' gradients.
        optimizer: Bytes of the optimiser's state.
        batch: Bytes of the batch.
        kept: Bytes of what the forward pass leaves for the backward pass.
        peak: Most bytes in use at any time of the step: weights, optimiser's state, batch, and all tensors
            that operators make, gradients included, as long as they live. Work space inside kernels and
            what the allocator adds are not in it.
    """

    forward_flops: int
    step_flops: int
    weights: int
    gradients: int
    optimizer: int
    batch: int
    kept: int
    peak: int


def step_cost(model: nn.Module, batch: Batch, optimization: OptimizationConfig) -> StepCost:
    """Count a step in the configured precision, or in what stands in for it.

    Args:
        model: A recipe, real or :func:`with_fake_tensors`. A real one is run, as training would run it on its
            device (a CPU does what is to be bfloat16 in float32), and its gradients are left in it.
        batch: What it sees, on the model's device. How many voxels it occupies decides what sparse
            convolutions cost.
        optimization: Precision and optimiser.
    """
    model.zero_grad(set_to_none=True)
    held, given = [*model.parameters(), *model.buffers()], list(_tensors(batch))
    device_type, mixed = batch.device.type, optimization.precision == "bf16"
    if not isinstance(held[0], FakeTensor):
        mixed = runs_in_bfloat16(optimization, device_type)
    meter = Meter([*held, *given])
    with meter:
        with torch.autocast(device_type, torch.bfloat16, enabled=mixed):
            terms = model(batch)
            loss = torch.stack([value.float() for value in terms.values()]).sum()
        forward, kept = meter.flops, meter.now
        loss.backward()
    gradients, data = _bytes(p for p in model.parameters() if p.requires_grad), _bytes(given)
    weights = _bytes(held)
    state = gradients * (1 if optimization.optimizer == "sgd" else 2)
    peak = weights + state + data + meter.most
    return StepCost(forward, meter.flops, weights, gradients, state, data, kept, peak)


def enlarge_images(batch: Batch, image_size: tuple[int, int]) -> Batch:
    """The batch with black images of another size, and cameras and depth images to match.

    Earlier moments' images, too. Depth images and classes are enlarged by repetition.
    """
    views = batch.views
    if views is None:
        return batch
    depths, valid, labels = views.z_depths, views.z_depth_valid, views.labels
    if depths is not None and valid is not None:
        depths = nn.functional.interpolate(depths, image_size, mode="nearest")
        valid = nn.functional.interpolate(valid.float(), image_size, mode="nearest") > 0
    seen = views.image_valid
    if seen is not None:
        seen = nn.functional.interpolate(seen.float(), image_size, mode="nearest") > 0
    if labels is not None:
        labels = nn.functional.interpolate(labels.float(), image_size, mode="nearest").to(labels.dtype)
    enlarged = Views(
        images=views.images.new_zeros(*views.images.shape[:-2], *image_size),
        cameras=views.cameras.resize(image_size),
        valid=views.valid,
        z_depths=depths,
        z_depth_valid=valid,
        labels=labels,
        image_valid=seen,
    )
    return replace(
        batch,
        views=enlarged,
        previous=tuple(enlarge_images(moment, image_size) for moment in batch.previous),
        following=tuple(enlarge_images(moment, image_size) for moment in batch.following),
    )


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors of a batch, of what it consists of, and of the moments before."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Meter(TorchDispatchMode):
    """While it is on, counts arithmetic, and the bytes of tensors that operators make as long as they live.

    Args:
        known: Tensors whose bytes are left out.

    Attributes:
        flops: Floating-point operations so far.
        now: Bytes alive.
        most: The most there were.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.flops = self.now = self.most = 0
        self._known: dict[int, weakref.finalize] = {}
        for tensor in known:
            self._meet(tensor, counts=False)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.flops += flops_of(func, args, kwargs, out)
        tree_map_only(Tensor, self._meet, out)
        return out

    def _meet(self, tensor: Tensor, *, counts: bool = True) -> None:
        """Take the memory behind a tensor into account, once."""
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        size = storage.nbytes() if counts else 0
        self._known[id(storage)] = weakref.finalize(storage, self._forget, id(storage), size)
        self.now += size
        self.most = max(self.most, self.now)

    def _forget(self, key: int, size: int) -> None:
        """Count the memory of a tensor as free."""
        self._known.pop(key)
        self.now -= size
