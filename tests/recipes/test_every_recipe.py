"""What holds for all recipes: gradients, precision, accumulation, and what they say of unfit data."""

from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close
from variants import (
    VARIANTS,
    Room,
    batch_of,
    build,
    scenes_for,
    small,
    street,
    without_cameras,
    without_points,
)

from renderpretrain.recipes import RECIPES

EVERY = pytest.mark.parametrize("variant", VARIANTS)
NO_IMPORTANCE = {
    "unipad": {"sampler": {"num_importance": 0}},
    "ponder": {"sampler": {"num_importance": 0}},
    "render": {"sampler": {"num_importance": 0}},
}
"""Where little weight lies, importance samples magnify the rounding in which batch sizes differ."""


@pytest.fixture(scope="module")
def scenes():
    """Scenes by variant, made once."""
    made = {}

    def of(variant):
        return made.setdefault(variant, scenes_for(variant))

    return of


def backward(recipe, batch):
    """The terms of a step, with gradients left in the recipe."""
    terms = recipe(batch)
    torch.stack([value.float() for value in terms.values()]).sum().backward()
    return terms


def flat_gradient(recipe):
    return torch.cat([p.grad.flatten() for p in learned(recipe).values()])


def learned(recipe):
    """Parameters that are trained: all but those of a copy that follows others."""
    return {name: p for name, p in recipe.named_parameters() if p.requires_grad}


@pytest.mark.untyped  # the tests below check the shapes of the same steps
@EVERY
def test_a_batch_of_two_is_two_accumulated_batches_of_one(variant, scenes):
    """Terms and gradient, of which every parameter has one; batch-norm statistics are frozen."""
    recipe = build(variant, **NO_IMPORTANCE.get(variant.split("-")[0], {})).eval()
    both = backward(recipe, batch_of(scenes(variant)))
    assert all(value.isfinite() for value in both.values()) and sum(both.values()) > 0
    assert [n for n, p in learned(recipe).items() if p.grad is None] == []
    whole = flat_gradient(recipe)
    recipe.zero_grad()
    singles = []
    for i, scene in enumerate(scenes(variant)):
        batch = replace(batch_of([scene]), seeds=torch.tensor([11 + i]))
        singles.append(backward(recipe, batch))
    for name, value in both.items():
        # Sums of thousands of float32 numbers.
        assert_close(value, (singles[0][name] + singles[1][name]) / 2, rtol=1e-5, atol=1e-6)
    # The same in another order, through a field that is sharp: relative to the largest entry.
    largest = float(whole.abs().max())
    assert_close(whole, flat_gradient(recipe) / 2, rtol=1e-4, atol=1e-4 * largest)


class VolumesInFloat32(TorchFunctionMode):
    """3D convolutions without autocast: on some CPUs their bfloat16 gradient writes past its memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in (torch.conv3d, torch.conv_transpose3d):
            return func(*args, **(kwargs or {}))
        full = [a.float() if isinstance(a, torch.Tensor) else a for a in args]
        with torch.autocast("cpu", enabled=False):
            return func(*full, **(kwargs or {})).bfloat16()


@pytest.mark.untyped  # as above
@EVERY
def test_mixed_precision_is_near_and_reaches_every_parameter(variant, scenes):
    """The weights are moved: what starts at zero passes nothing on to what comes before it."""
    recipe, batch = build(variant).eval(), batch_of(scenes(variant))
    with torch.no_grad():
        for parameter in recipe.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    full = recipe(batch)
    with torch.autocast("cpu", torch.bfloat16), VolumesInFloat32():
        mixed = backward(recipe, batch)
    for name, value in full.items():
        # The networks' eight bits.
        assert_close(mixed[name].float(), value, rtol=0.1, atol=0.05)
    assert [n for n, p in learned(recipe).items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in learned(recipe).values())


def room():
    return Room(1, image_size=(64, 96), num_views=2, num_points=2048, with_truth=False)


LACKS = {
    ("unipad-camera", "images"): "has no images: .* use unipad-lidar",
    ("unipad-fusion", "images"): "has no images: .* use unipad-lidar",
    ("unipad-camera resnet", "images"): "has no images: .* use unipad-lidar",
    ("render-distill-camera", "images"): "has no images: .* use unipad-lidar",
    ("render-distill-fusion", "images"): "has no images: .* use unipad-lidar",
    ("render-distill-lidar", "points"): "has no points: .* use unipad-camera",
    ("render-distill-camera", "points"): "has no points: the depth term .* set losses.depth=0",
    ("render-distill-fusion", "points"): "has no points: .* use unipad-camera",
    ("ponder-outdoor", "images"): "has no images: .* set losses.rgb=0",
    ("ponder-indoor", "images"): "has no depth images: .* use ponder-outdoor",
    ("ns-mae", "images"): "has no images: .* use modality=lidar",
    ("ns-mae camera", "images"): "has no images: .* use modality=lidar",
    ("uniscene", "images"): "has no images: .* use unipad-lidar",
    ("uniscene lss", "images"): "has no images: .* use unipad-lidar",
    ("unipad-lidar", "points"): "has no points: .* use unipad-camera",
    ("unipad-camera", "points"): "has no points: the depth term .* set losses.depth=0",
    ("unipad-camera resnet", "points"): "has no points: the depth term .* set losses.depth=0",
    ("unipad-fusion", "points"): "has no points: .* use unipad-camera",
    ("ponder-outdoor", "points"): "has no points: .* use unipad-camera",
    ("ponder-indoor", "points"): "has no points: .* use unipad-camera",
    ("ns-mae", "points"): "has no points: .* use modality=camera",
    ("ns-mae lidar", "points"): "has no points: .* use modality=camera",
    ("uniscene", "points"): "has no points: .* use ns-mae with modality=camera",
    ("uniscene lss", "points"): "has no points: .* use ns-mae with modality=camera",
}
"""Who goes without what only in one line, and which; the others take a step without it."""


@EVERY
@pytest.mark.parametrize(("missing", "take"), [("images", without_cameras), ("points", without_points)])
def test_a_missing_sensor_is_done_without_or_named(variant, missing, take, scenes):
    recipe, batch = build(variant), batch_of([take(scene) for scene in scenes(variant)])
    message = LACKS.get((variant, missing))
    if message is None:
        assert sum(backward(recipe, batch).values()) > 0
        return
    with pytest.raises(ValueError, match=message) as error:
        recipe(batch)
    assert "\n" not in str(error.value)


@EVERY
def test_a_room_is_taken_or_refused(variant):
    """Rooms have views that do not follow each other; only UniScene minds."""
    entry = RECIPES[variant.split()[0]]
    config = small(variant, **dict(entry.indoor))
    if entry.name == "uniscene":
        with pytest.raises(ValueError, match="expected frames that follow each other, got Room; use"):
            entry.prepare(config, room(), 0)
        return
    batch = batch_of([entry.prepare(config, room(), 0)[0]])
    assert sum(backward(entry.build(config), batch).values()) > 0


def test_the_flag_that_a_message_names_turns_the_need_off(scenes):
    blind = [without_points(scene) for scene in scenes("unipad-camera")]
    terms = build("unipad-camera", losses={"depth": 0})(batch_of(blind))
    assert terms["rgb"] > 0
    bare = [without_cameras(scene) for scene in scenes("ponder-outdoor")]
    assert build("ponder-outdoor", losses={"rgb": 0})(batch_of(bare))["depth"] > 0


@EVERY
def test_an_odd_image_size_is_taken_or_named(variant):
    """Networks that hide whole patches need whole patches."""
    config = {"image_size": [45, 71]}
    name = variant.split()[0]
    if "lidar" not in variant and name.endswith(("-camera", "-fusion", "ns-mae")):
        with pytest.raises(ValueError, match=r"^image_size: expected sides divisible .*got \(45, 71\)$"):
            build(variant, **config)
        return
    batch = batch_of(scenes_for(variant, **config)[:1])
    assert sum(backward(build(variant, **config), batch).values()) > 0


def test_single_frames_are_refused_by_what_remembers():
    entry, alone = RECIPES["uniscene"], street((48, 80), frames_per_street=1)
    with pytest.raises(ValueError, match=r"every scene stands alone; set attention.history=0"):
        entry.prepare(small("uniscene"), alone, 0)
    settings = {"attention": {"history": 0}}
    scene = entry.prepare(small("uniscene", **settings), alone, 0)[0]
    assert build("uniscene", **settings)(batch_of([scene]))["occupancy"] > 0
    assert entry.prepare(small("uniscene lss"), alone, 0)[0].occupancy is not None
