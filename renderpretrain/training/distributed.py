"""One process or many: ``torchrun`` and ``DistributedDataParallel``, and nothing home-made.

A step's global batch is ``batch_size * accumulate`` samples of every process.
"""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from renderpretrain.encoders import (
    MaskedBatchNorm2d,
    SparseConv3d,
    SubMConv3d,
    agree_on,
    sparse_backend,
    spconv_status,
)
from renderpretrain.recipes.columns import point_input
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.split_checkpoint import raised_in_all
from renderpretrain.training.sharded import shard

T = TypeVar("T")

SETTLING = 0.05
"""Seconds between the last exchange and the end of a group of processes.

A thread of gloo's takes apart what it exchanged under a lock, and asks for Python's own lock meanwhile; the
end of the group, under Python's lock, waits for gloo's: seen with torch 2.13 in the stacks of a hung run.
While this process sleeps, Python's lock is free.
"""


def agree_on_sparse_backend(recipe: nn.Module, process: "Process") -> str | None:
    """Ask once a machine, before the first step, which code multiplies sparse convolutions on a GPU.

    Returns:
        Which one and why, in words; ``None`` without a GPU, or where the recipe leaves no choice.
    """
    layers = (layer for layer in recipe.modules() if isinstance(layer, SubMConv3d | SparseConv3d))
    if process.device.type != "cuda" or all(layer.backend != "auto" for layer in layers):
        return None
    asks = int(os.environ.get("LOCAL_RANK", 0)) == 0
    answers = process.collect((spconv_status(process.device) if asks else None,))
    given = [answer for answer in answers if answer is not None]
    # Where it fails on one machine, all do without it.
    status = next((answer for answer in given if not answer["ok"]), given[0])
    agree_on(process.device, status)
    return f"sparse convolutions: {sparse_backend(process.device)} ({status['why']})"


def share_columns(recipe: nn.Module, process: "Process") -> None:
    """Let every process know how far the columns of points went in the scenes of all of them."""
    read = point_input(recipe)
    if read is not None and process.world_size > 1:
        dist.all_reduce(read.largest, op=dist.ReduceOp.MAX)


def _own_buffers(recipe: nn.Module) -> dict[str, Tensor]:
    """Buffers that every process keeps for itself until :func:`share_columns`, by name."""
    read = point_input(recipe)
    return {
        name: buffer for name, buffer in recipe.named_buffers() if read is not None and buffer is read.largest
    }


@dataclass(frozen=True)
class Process:
    """This process among those that train together.

    Attributes:
        rank: 0 writes the files.
        world_size: Number of processes.
        device: Where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def total(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The sum over the values of all processes."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def collect(self, values: tuple[T, ...]) -> tuple[T, ...]:
        """The values of every process, such as names, in rank order."""
        if self.world_size == 1:
            return values
        gathered: list[tuple[T, ...]] = [()] * self.world_size
        dist.all_gather_object(gathered, values)
        return tuple(value for part in gathered for value in part)

    def together(self) -> AbstractContextManager[None]:
        """What one process cannot do in this block, such as write a file, is raised in all of them after it.

        Else the others would wait for one that has left.
        """
        return raised_in_all(self.world_size > 1)

    def wait(self) -> None:
        """Until every process is here."""
        if self.world_size > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def replicate(self, recipe: nn.Module, optimization: OptimizationConfig) -> nn.Module:
        """The module to call in training: the recipe, or what makes several processes train it together.

        With ``optimization.parallel=fsdp`` parameters are replaced: the optimiser is built afterwards.

        Raises:
            ValueError: If batch norm is to be synchronised without a GPU, or over masks.
        """
        sync_batch_norm = optimization.sync_batch_norm
        if sync_batch_norm and any(isinstance(module, MaskedBatchNorm2d) for module in recipe.modules()):
            raise ValueError(
                "sync_batch_norm: a masked ResNet cannot synchronise; use image.backbone=convnext"
            )
        if sync_batch_norm and self.device.type != "cuda":
            raise ValueError(f"sync_batch_norm: expected a CUDA device, got {self.device}")
        if self.world_size == 1:
            return recipe
        if sync_batch_norm:
            nn.SyncBatchNorm.convert_sync_batchnorm(recipe)
        own = _own_buffers(recipe)
        if optimization.parallel == "fsdp":
            return shard(recipe, self.device, own.values())
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(recipe, list(own))
        # A batch without points, or without a camera that sees any, leaves parameters without a gradient.
        return DistributedDataParallel(recipe, find_unused_parameters=True)


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU of this process where there is one, else the CPU.

    Raises:
        ValueError: If torch does not know the device or it is not there.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{local}" if name == "cuda" else name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("another kind")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        known = name.partition(":")[0] in ("cpu", "cuda")
        reason = f" ({str(error).splitlines()[0][:120]})" if known else ""
        raise ValueError(
            f"device: expected auto, cpu, cuda or cuda:N that is present, got {name!r}{reason}"
        ) from error
    return device


def _unused_names(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """A store of the same processes in which nothing stands yet.

    ``torchrun`` keeps its store when it starts processes again, and with it the addresses of those that have
    ended: who reads one fails to connect, or waits. So the first process makes up a name, and tells it to
    each that asks under a name of its own. What those asked that have ended is answered, too; nobody listens.

    Raises:
        TimeoutError: If not all processes come.
    """
    if rank > 0:
        question = uuid.uuid4().hex
        store.set(f"question of {rank}", question)
        session = store.get(question).decode()
        store.set(f"{session} is known to {rank}", "")
        return dist.PrefixStore(session, store)
    session, waiting = uuid.uuid4().hex, set(range(1, world_size))
    deadline = time.monotonic() + dist.default_pg_timeout.total_seconds()
    while waiting:
        asking = [other for other in waiting if store.check([f"question of {other}"])]
        for other in asking:
            store.set(store.get(f"question of {other}").decode(), session)
        waiting -= {other for other in asking if store.check([f"{session} is known to {other}"])}
        if time.monotonic() > deadline:
            raise TimeoutError(f"torchrun: {len(waiting)} of {world_size} processes did not come")
        time.sleep(0.01)
    return dist.PrefixStore(session, store)


@contextmanager
def process_session(device: str) -> Iterator[Process]:
    """Join the processes that ``torchrun`` started, if it did; leave together.

    A process group that the caller has initialised is used and left alone. What holds the group, such as a
    model in ``DistributedDataParallel``, is let go within the session: see :data:`SETTLING`.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    ours = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if ours:
        # Its functions keep the group of the moment they were defined, and the group its threads: these would
        # outlive the interpreter, which can abort a process that has finished. So they are defined before.
        import_module("torch.distributed.nn.functional")
        store, rank, world_size = next(rendezvous("env://"))
        store = _unused_names(store, rank, world_size)
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    try:
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        process = Process(rank, world_size, chosen)
        yield process
        if ours:
            # Without it the first process to leave takes the connection from under the others.
            process.wait()
    finally:
        if ours:
            time.sleep(SETTLING)
            dist.destroy_process_group()
