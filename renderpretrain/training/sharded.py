"""A recipe of which every process keeps a part: PyTorch's FSDP2, for encoders that do not fit a card.

Weights, gradients and the optimiser's memory are split over the processes. The repeated blocks of encoders
are whole only while they compute; the rest of a recipe is whole during a step. Each process writes its part
of a checkpoint, which can be read anywhere, on any number of processes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh

from renderpretrain.losses import GradNorm
from renderpretrain.recipes.recipe import encoders_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.split_checkpoint import is_split
from renderpretrain.teachers import EMATeacher


class Sharded(nn.Module):
    """What is called in training instead of a recipe that is split; made by :func:`shard`.

    Args:
        recipe: Its parameters become parts.
        shared: Its buffers that are to be as they are in the first process.
    """

    def __init__(self, recipe: nn.Module, shared: Iterable[Tensor]) -> None:
        super().__init__()
        self.module, self.shared = recipe, list(shared)
        self.numbers = [parameter for parameter in recipe.parameters() if parameter.dim() == 0]

    def forward(self, batch: object) -> object:
        """What the recipe gives; nothing for ``None``."""
        if batch is None:
            return None
        broadcast(self.shared)
        return self.module(batch)

    def clip_gradients(self, most: float) -> Tensor:
        """Scale the gradient down to a norm of ``most``; returns the norm it had, ``()``."""
        self._average_numbers()
        alone = {id(number) for number in self.numbers}
        grads = [(local(p.grad), id(p) in alone) for p in self.module.parameters() if p.grad is not None]
        squares = grads[0][0].new_zeros(2)
        for grad, is_number in grads:
            squares[int(is_number)] += grad.square().sum()
        dist.all_reduce(squares[:1])
        norm = squares.sum().sqrt()
        for grad, _ in grads:
            grad.mul_((most / (norm + 1e-6)).clamp(max=1.0))  # as torch.nn.utils.clip_grad_norm_
        return norm

    def _average_numbers(self) -> None:
        """Average the gradients of single numbers, which are not split, over the processes."""
        learned = [number for number in self.numbers if number.requires_grad]
        if not learned:
            return
        grads = torch.stack([torch.zeros_like(n) if n.grad is None else n.grad for n in learned])
        dist.all_reduce(grads)
        for number, grad in zip(learned, grads / dist.get_world_size(), strict=True):
            number.grad = grad


def check_sharding(recipe: nn.Module, optimization: OptimizationConfig) -> None:
    """Raise a ``ValueError`` if a recipe is to be split that cannot be, or with a torch that cannot."""
    if optimization.parallel != "fsdp":
        return
    if optimization.gradient_norms_every:
        raise ValueError(
            "optimization.gradient_norms_every: expected 0 with optimization.parallel=fsdp, where encoders "
            f"are never whole, got {optimization.gradient_norms_every}"
        )
    if any(isinstance(part, GradNorm) for part in recipe.modules()):
        raise ValueError(
            "optimization.parallel: expected ddp with GradNorm, which compares gradients of whole weights; "
            "got fsdp"
        )
    if any(isinstance(part, EMATeacher) for part in recipe.modules()):
        raise ValueError(
            "optimization.parallel: expected ddp with EMATeacher, which follows whole weights; got fsdp"
        )
    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_reduce_scatter_unused_params"):
        raise ValueError(
            f"optimization.parallel: fsdp needs torch 2.13 or newer, this is {torch.__version__}"
        )


def shard(recipe: nn.Module, device: torch.device, own: Iterable[Tensor] = ()) -> Sharded:
    """Split a recipe over all processes; the first one's weights count.

    Args:
        recipe: On its device; its parameters are replaced by parts of them.
        device: Of this process.
        own: Buffers that every process keeps for itself.
    """
    kept, persistent = {id(buffer) for buffer in own}, recipe.state_dict().keys()
    shared = [b for name, b in recipe.named_buffers() if name in persistent and id(b) not in kept]
    broadcast([parameter.data for parameter in recipe.parameters()])
    model = Sharded(recipe, shared)
    how: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (dist.get_world_size(),)),
        "ignored_params": set(model.numbers),  # it splits tensors alone
    }
    found = [block for encoder in encoders_of(recipe).values() for block in repeated_blocks(encoder)]
    blocks = [fsdp.fully_shard(block, **how) for block in dict.fromkeys(found)]
    root = fsdp.fully_shard(model, **how)
    for part, before in zip([*blocks, root], [*blocks[:1], *blocks], strict=False):
        # Going back, the block before is gathered meanwhile. FSDP2 itself takes what ran before, and counts
        # what the first process alone has drawn: processes then gather different blocks, and wait for ever.
        part.set_modules_to_backward_prefetch([before])
    # As with DistributedDataParallel, parameters that a process has not used have a gradient of 0 there.
    root.set_reduce_scatter_unused_params(True)
    with torch.no_grad():
        model(None)  # the first that is called is the one around all others
    root.reshard()
    return model


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The innermost modules in lists of several of their kind, such as residual blocks; no single layers."""
    in_list = isinstance(module, nn.ModuleList | nn.Sequential)
    kinds = Counter(type(child) for child in module.children())
    blocks = []
    for child in module.children():
        layers = sum(any(True for _ in part.parameters(recurse=False)) for part in child.modules())
        is_block = in_list and kinds[type(child)] > 1 and layers > 1 and not isinstance(child, nn.ModuleList)
        blocks += repeated_blocks(child) or ([child] if is_block else [])
    return blocks


def clip_gradients(model: nn.Module, most: float) -> Tensor:
    """Scale the gradient down to a norm of ``most``, over all processes; returns the norm it had, ``()``."""
    if isinstance(model, Sharded):
        return model.clip_gradients(most)
    return nn.utils.clip_grad_norm_(model.parameters(), most)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Within it every process has all weights, to evaluate and to draw; all processes come here together.

    Args:
        model: A :class:`Sharded` one; of any other the weights are whole anyway.
    """
    parts = [part for part in model.modules() if isinstance(part, fsdp.FSDPModule)] if _split(model) else []
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def _split(model: nn.Module) -> bool:
    return isinstance(model, Sharded)


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have in the first process."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(tensor.dtype, []).append(tensor)
    with torch.no_grad():
        for alike in kinds.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.broadcast(flat, 0)
            for tensor, values in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
                tensor.copy_(values.view_as(tensor))


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that is split, as a view of it; any other tensor as it is."""
    return cast(Tensor, tensor.to_local()) if hasattr(tensor, "to_local") else tensor


def gathered(tensor: Tensor) -> Tensor:
    """A tensor that is split, whole and on the host in the first process and empty in the others.

    All processes call this together. Any other tensor stays as it is.
    """
    if not hasattr(tensor, "full_tensor"):
        return tensor
    full = cast(Tensor, tensor.full_tensor())
    return full.cpu() if dist.get_rank() == 0 else full.new_empty(0)


def part_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This process's part of a whole tensor, split as a parameter is; whole if that is.

    What is a part already stays as it is.
    """
    if is_split(tensor) or not is_split(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor  # elsewhere in older versions of torch

    mesh, placements = cast(Any, parameter).device_mesh, cast(Any, parameter).placements
    return distribute_tensor(tensor.to(parameter.device), mesh, placements, src_data_rank=None)
