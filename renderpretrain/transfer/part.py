"""What a host is to us: the file it reads, and where in it each kind of encoder lies."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from renderpretrain.encoders.key_tables import SAME, Table, rename
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.layouts import Axes, Layout, Shapes, Tensors

SECOND_NORM = (1e-3, 0.01)
"""Batch norm ``eps`` and momentum of every sparse network here."""

IMAGE_NORM = (1e-5, 0.1)
"""PyTorch's own, which all image networks here use."""

State = dict[str, Tensor]
"""Weights by a host's keys, without prefix."""

Pair = tuple[list[Tensor], list[Tensor]]
"""Outputs of our encoder, and those of the host's."""

Check = Callable[[Any, State, torch.Generator], Pair]
"""Runs our module, and the host's network said again from its weights, on the same random input."""

Snippet = Callable[[Pretrained, Tensors], list[str]]
"""Lines of a host's configuration for encoders that all have a place there, given what is written."""


def as_it_is(tensors: Tensors) -> Tensors:
    """Tensors without a change, for parts whose values need none."""
    return tensors


def as_exported(shapes: Shapes) -> Shapes:
    """The shapes that are exported, for modules whose sizes the host's configuration sets."""
    return shapes


@dataclass(frozen=True)
class Part:
    """One kind of encoder in one host.

    Attributes:
        kind: Our class.
        prefix: Of its keys in the host's model.
        module: What the host calls it.
        marker: A key below the prefix by which a file's part is recognised.
        table: Our keys and the host's, below the prefix.
        to_host: Values on the way out, under the host's names; may add what only the host has, or drop.
        from_host: Values on the way in; undoes ``to_host``.
        stock: Shapes of the host's module, given those of what is exported, both in our layout.
        axes: Order of kernel axes in our weights; ``None`` if its kernels are not sparse.
        norm: ``eps`` and momentum of the host's batch norms, where it fixes or defaults them.
        fixed: Why encoders of other sizes than ``stock`` do not fit, where the host's code sets them.
        absent: A key that a file does not have, where another part has the same marker.
        check: Compares outputs; ``None`` where the host's network is not said again here.
    """

    kind: str
    prefix: str
    module: str
    marker: str
    table: Table = SAME
    to_host: Callable[[Tensors], Tensors] = as_it_is
    from_host: Callable[[Tensors], Tensors] = as_it_is
    stock: Callable[[Shapes], Shapes] = as_exported
    axes: Axes | None = None
    norm: tuple[float, float] | None = None
    fixed: str = ""
    absent: str = ""
    check: Check | None = None


@dataclass(frozen=True)
class Host:
    """A framework that weights go to or come from.

    Attributes:
        name: What the user types.
        title: What its users call it.
        wrapper: Key of the weights in its files; ``None`` where the file is the weights.
        layout: Of sparse kernels.
        parts: What it has a place for, in the order they are looked for.
        snippet: What to paste into its configuration.
        versions: Whether files carry module versions, by which its loader tells the layouts apart.
        outer: What stands before every key in its files.
        warning: The mistake its loader does not report.
    """

    name: str
    title: str
    wrapper: str | None
    layout: Layout
    parts: tuple[Part, ...]
    snippet: Snippet
    versions: bool = False
    outer: str = ""
    warning: str = ""

    def part(self, kind: str, keys: Collection[str]) -> Part | None:
        """Where an encoder lies, if anywhere; of several places the one whose marker its keys have."""
        places = [part for part in self.parts if part.kind == kind]
        marked = [p for p in places if p.marker in {rename(key, p.table) for key in keys}]
        return next(iter(marked + places), None)
