"""Batch norms are measured on whole inputs."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders.norms import estimate_statistics, statistics_of


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4), nn.BatchNorm1d(2))


def run(model, inputs):
    """All of it but the last norm."""
    return (model[:4](x) for x in inputs)


def interrupted(model, inputs):
    """One pass, then an error."""
    yield model[:4](inputs[0])
    raise OSError("a scene that cannot be read")


def test_statistics_are_means_over_the_passes_whatever_they_were():
    model, inputs = network(), list(torch.randn(3, 50, 3))
    model[1].running_mean += 100
    model[1].momentum = 0.5
    model[3].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    estimate_statistics(model, run(model, inputs))
    outputs = [model[0](x) for x in inputs]
    assert_close(model[1].running_mean, torch.stack([x.mean(0) for x in outputs]).mean(0))
    assert_close(model[1].running_var, torch.stack([x.var(0) for x in outputs]).mean(0))
    assert model[1].momentum == 0.5 and not model.training
    for name, value in model.state_dict().items():  # the frozen norm and the one that no pass reached
        if name.startswith(("3.", "4.")):
            assert torch.equal(value, before[name])


def test_for_a_while_means_that_everything_is_put_back():
    model, inputs = network().train(), list(torch.randn(3, 50, 3))
    before = copy.deepcopy(model.state_dict())
    with statistics_of(model, run(model, inputs)):
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    assert model.training
    with pytest.raises(OSError, match="cannot be read"), statistics_of(model, interrupted(model, inputs)):
        pass
    assert model.training and model[1].momentum == 0.1
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
