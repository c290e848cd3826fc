"""Recorded passes are those of ever; on a GPU by a CUDA graph, elsewhere by a stand-in for its recorder."""

import pytest
import torch
from stand_in import Points, StandIn, optimization
from torch.testing import assert_close

from renderpretrain.data import collate
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve
from renderpretrain.training import MicroBatches, Process, RunOptions, Stepper, build_optimizer, fit
from renderpretrain.training.recorded import (
    MOST_GRAPHS,
    POINTS,
    WARM_UP,
    RecordedPasses,
    check_recordable,
    padded,
    shape_of,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


class Recorder:
    """Does again what it recorded, and leaves the results where the recording left them, as a graph does.

    To record is not to do: the buffers of ``recipe`` are then what they were.
    """

    def __init__(self, recipe):
        self.recipe, self.recorded, self.replayed = recipe, 0, 0

    def __call__(self, passes):
        self.recorded += 1
        before = [buffer.clone() for buffer in self.recipe.buffers()]
        results = [value.detach().clone() for value in passes()]
        for buffer, value in zip(self.recipe.buffers(), before, strict=True):
            buffer.copy_(value)

        def replay():
            self.replayed += 1
            for kept, value in zip(results, passes(), strict=True):
                kept.copy_(value.detach())

        return results, replay


class Masked(StandIn):
    """Without dropout, and blind to points that are not valid."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Identity()

    def encode(self, batch):
        valid = batch.points.valid[..., None]
        rows = torch.where(
            valid, self.encoder(batch.points.columns(("x", "y", "z", "intensity", "lag"))), 0.0
        )
        return self.norm(rows.sum(1) / valid.sum(1))


def scenes(count, points=40):
    """Scenes of so many points each."""
    made = []
    for index in range(count):
        scene = Points()[index]
        scene.points.resize_(0)
        made.append(type(scene)(scene.name, 5 + torch.rand(points, 5), torch.zeros(3)))
    return made


def steps(recipe, batches, record=None, device="cpu", **settings):
    """Losses of some steps; recorded where there is a recorder, or on a GPU as asked."""
    asked = optimization(steps=len(batches), **settings)
    place = Process(0, 1, torch.device(device))
    stepper = Stepper(recipe.to(device).train(), build_optimizer(recipe, asked), asked, place, seed=0)
    if record is not None:
        stepper.recorded = RecordedPasses(recipe, stepper._passes, record)
    taken = [stepper.take(step, iter([batch])) for step, batch in enumerate(batches, 1)]
    return [stepper.read(record).row["loss"] for record in taken], stepper


@pytest.mark.parametrize("device", DEVICES)
def test_recorded_steps_are_those_of_ever(device):
    batches = [MicroBatches(Points(), 7, 0, 2, 1)[k] for k in range(WARM_UP + 4)]
    ever, plain = Masked(), Masked()
    recorder = Recorder(ever) if device == "cpu" else None
    expected, _ = steps(plain, batches, device=device)
    found, stepper = steps(ever, batches, recorder, device, cuda_graph=True)
    assert len(stepper.recorded.known) == 1
    if recorder:
        assert (recorder.recorded, recorder.replayed) == (1, 4)
    # On the CPU padding adds zeros to sums; a GPU may choose other algorithms.
    assert found == pytest.approx(expected, rel=1e-5)
    assert_close(ever.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_every_shape_is_recorded_by_itself_and_few_are_kept(device):
    recipe = Masked()
    recorder = Recorder(recipe) if device == "cpu" else None
    shapes = [collate(scenes(count), torch.arange(count)) for count in range(2, 3 + MOST_GRAPHS)]
    batches = [batch for batch in shapes for _ in range(WARM_UP + 1)]
    found, stepper = steps(recipe, batches, recorder, device, cuda_graph=True)
    assert found == pytest.approx(steps(Masked(), batches, device=device)[0], rel=1e-4)
    assert len(stepper.recorded.known) == MOST_GRAPHS


def test_moved_weights_are_recorded_anew():
    recipe = Masked()
    recorder = Recorder(recipe)
    _, stepper = steps(recipe, [collate(scenes(2), torch.arange(2))] * (WARM_UP + 2), recorder)
    recipe.head.weight.data = recipe.head.weight.data.clone()
    stepper.take(9, iter([collate(scenes(2), torch.arange(2))]))
    assert recorder.recorded == 2


def test_a_parameter_without_a_gradient_stays_without():
    class Unused(Masked):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

    recipe = Unused()
    steps(recipe, [collate(scenes(2), torch.arange(2))] * (WARM_UP + 2), Recorder(recipe))
    assert recipe.unused.grad is None and recipe.head.bias.grad is not None


def test_scenes_of_other_sizes_have_one_shape_and_padding_is_not_valid():
    small, large = (padded(collate(scenes(2, count), torch.arange(2))) for count in (40, 900))
    assert shape_of(small) == shape_of(large) and small.points.xyz.shape == (2, POINTS, 3)
    assert small.points.valid.sum() == 80 and torch.equal(
        small.points.valid[:, :40].all(), torch.tensor(True)
    )
    assert shape_of(small) != shape_of(padded(collate(scenes(3), torch.arange(3))))


@pytest.mark.parametrize(
    ("name", "change", "layer"),
    [
        ("unipad-lidar", {}, r"what \S+conv\S* gives"),
        ("ponder-outdoor", {}, "conv_input"),
        ("uniscene", {}, "lifter"),
        ("unipad-camera", {}, None),
        ("ns-mae", {"modality": "camera"}, None),
        ("uniscene", {"lifter": "lss"}, None),
    ],
)
def test_what_has_no_single_shape_is_refused(name, change, layer):
    config = resolve(RECIPES[name].presets["tiny"], [change, {"optimization": {"cuda_graph": True}}])
    recipe = RECIPES[name].build(config)
    if layer is None:
        check_recordable(recipe, config.optimization, 1)
    else:
        with pytest.raises(ValueError, match=rf"cuda_graph: expected .*{layer}"):
            check_recordable(recipe, config.optimization, 1)
    check_recordable(recipe, config.optimization.model_copy(update={"cuda_graph": False}), 4)


def test_several_processes_and_batches_are_refused():
    asked = optimization(cuda_graph=True)
    for processes, given in ((2, asked), (1, asked.model_copy(update={"accumulate": 3}))):
        with pytest.raises(ValueError, match="cuda_graph: expected one process"):
            check_recordable(StandIn(), given, processes)


def test_a_cpu_says_that_it_records_nothing(tmp_path, capfd):
    fit(StandIn(), Points(), optimization(cuda_graph=True), out=tmp_path, options=RunOptions(device="cpu"))
    assert "cuda_graph: not on a CPU" in capfd.readouterr().out


@pytest.mark.gpu
def test_a_step_that_waits_is_refused_with_its_place():
    class Waits(Masked):
        def encode(self, batch):
            float(batch.points.xyz.sum())
            return super().encode(batch)

    with pytest.raises(ValueError, match=r"cuda_graph: .* waits for the GPU at .*test_recorded.py, line"):
        steps(Waits(), [collate(scenes(2), torch.arange(2))] * WARM_UP, device="cuda", cuda_graph=True)
