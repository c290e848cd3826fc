"""Which code multiplies sparse convolutions on a GPU: settled before the first step, and said."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from renderpretrain.encoders import SubMConv3d, agree_on, sparse_backend
from renderpretrain.training.distributed import Process, agree_on_sparse_backend

WORKS = {"ok": True, "why": "spconv 2.3.6 works"}
FAILS = {"ok": False, "why": "no memory on the first GPU"}


@dataclass(frozen=True)
class OneOfMany(Process):
    """A process whose group has answered: two machines, of which the first processes ask."""

    answers: tuple[dict | None, ...] = ()

    def collect(self, values):
        return self.answers


def on(device, *layers):
    return nn.ModuleList(layers), Process(0, 1, torch.device(device))


@pytest.mark.parametrize("status, chosen", [(WORKS, "spconv"), (FAILS, "builtin")])
def test_a_run_says_what_it_takes_and_why(status, chosen):
    agree_on("cuda:5", status)
    told = agree_on_sparse_backend(*on("cuda:5", SubMConv3d(4, 4)))
    assert told == f"sparse convolutions: {chosen} ({status['why']})"
    assert sparse_backend("cuda:5") == chosen


def test_nothing_is_said_where_there_is_no_choice():
    assert agree_on_sparse_backend(*on("cpu", SubMConv3d(4, 4))) is None
    assert agree_on_sparse_backend(*on("cuda:6", SubMConv3d(4, 4, backend="builtin"))) is None
    assert agree_on_sparse_backend(*on("cuda:6", nn.Linear(4, 4))) is None


def test_where_spconv_fails_on_one_machine_all_do_without(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")  # which does not ask
    process = OneOfMany(1, 4, torch.device("cuda:7"), (WORKS, None, FAILS, None))
    told = agree_on_sparse_backend(nn.ModuleList([SubMConv3d(4, 4)]), process)
    assert told == "sparse convolutions: builtin (no memory on the first GPU)"
    assert sparse_backend("cuda:7") == "builtin"
