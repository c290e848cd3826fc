"""A copy that follows its student, exactly, through checkpoints and in several processes."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from renderpretrain.teachers import EMATeacher


def student():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def trained(model, steps=3, seed=1):
    """Some steps of descent, with the weights after each."""
    optimizer, history = torch.optim.SGD(model.parameters(), lr=0.1), []
    data = torch.randn(steps, 16, 3, generator=torch.Generator().manual_seed(seed))
    for x in data:
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        history.append([p.detach().clone() for p in model.parameters()])
        yield history


def test_weights_are_the_moving_average_and_buffers_the_students():
    model = student()
    mine = [p.detach().clone() for p in model.parameters()]
    teacher = EMATeacher(model, momentum=0.9, final=0.98, updates=2)
    for step, history in enumerate(trained(model)):
        m = 0.98 - 0.08 * (1 + math.cos(math.pi * min(step / 2, 1))) / 2
        assert teacher.kept().item() == pytest.approx(m)
        teacher.follow()
        mine = [m * old + (1 - m) * new for old, new in zip(mine, history[-1], strict=True)]
        for own, expected in zip(teacher.copy.parameters(), mine, strict=True):
            assert_close(own, expected)
    assert torch.equal(teacher.copy[1].running_mean, model[1].running_mean) and model[1].running_mean.any()
    assert teacher.moved == 3


def test_it_stays_in_evaluation_mode_and_has_no_gradients():
    model = student()
    holder = nn.ModuleDict({"student": model, "teacher": EMATeacher(model)})
    holder.train()
    assert holder["teacher"].training and not any(m.training for m in holder["teacher"].copy.modules())
    assert not any(p.requires_grad for p in holder["teacher"].parameters())
    keys = set(holder.state_dict())
    assert len(keys) == 2 * len(model.state_dict()) + 1 and "teacher.copy.0.weight" in keys


def test_a_resumed_run_and_a_copied_one_go_on_exactly():
    model = student()
    run = nn.ModuleDict({"student": model, "teacher": EMATeacher(model, momentum=0.5, final=0.9, updates=6)})
    steps = trained(model, steps=6)
    for _ in range(3):
        next(steps)
        run["teacher"].follow()
    saved, twin = copy.deepcopy(run.state_dict()), copy.deepcopy(run)
    other = student()
    resumed = nn.ModuleDict(
        {"student": other, "teacher": EMATeacher(other, momentum=0.5, final=0.9, updates=6)}
    )
    resumed.load_state_dict(saved)
    next(steps)
    for one in (resumed, twin):
        one["student"].load_state_dict(model.state_dict())
    for one in (run, resumed, twin):
        one["teacher"].follow()
    for one in (resumed, twin):
        for name, value in run.state_dict().items():
            assert torch.equal(one.state_dict()[name], value), name


@pytest.mark.untyped
def test_it_follows_within_data_parallel_training(tmp_path):
    """One process of a group: what is wrapped moves, and what follows it is not among what is reduced."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:

        class Run(nn.Module):
            def __init__(self):
                super().__init__()
                self.student = student()
                self.teacher = EMATeacher(self.student, momentum=0.5, final=0.5)

            def forward(self, x):
                self.teacher.follow()
                return (self.student(x) - self.teacher.copy(x)).square().sum() + self.student(x).sum()

        run = Run()
        model = DistributedDataParallel(run, find_unused_parameters=True)
        optimizer = torch.optim.SGD(run.student.parameters(), lr=0.1)
        before = run.student[0].weight.detach().clone()
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).backward()
            moved = run.student[0].weight.detach().clone()
            optimizer.step()
        assert_close(run.teacher.copy[0].weight, (before + moved) / 2)
        assert not torch.equal(before, moved)
        del model
    finally:
        torch.distributed.destroy_process_group()


def test_what_cannot_be_followed_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^momentum, final, updates: expected shares .* got 0.9, 0.5 and 1"):
        EMATeacher(student(), momentum=0.9, final=0.5)
    model = student()
    teacher = EMATeacher(model)
    model[0].weight = nn.Parameter(model[0].weight[:2])
    with pytest.raises(ValueError, match=r"^teacher: expected whole weights .*optimization.parallel=ddp$"):
        teacher.follow()
