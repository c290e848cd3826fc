"""What UniPAD and NS-MAE choose by name, in a step: samplers, fields, opacities, fusions and balancers."""

from dataclasses import replace

import pytest
import torch
from variants import batch_of, build, scenes_for

from renderpretrain.losses import GradNorm, UncertaintyWeights
from renderpretrain.recipes.sections import KINDS
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.training import Process, Stepper, build_optimizer

NO_DISTANCES = {"sdf": 0, "free_space": 0}
CHOICES = {
    **{f"unipad-lidar, {kind}": {"sampler": {"kind": kind}} for kind in KINDS},
    **{f"ns-mae lidar, {kind}": {"sampler": {"kind": kind}} for kind in ("near_surface", "occupied")},
    "unipad-lidar, volsdf": {"field": {"opacity": "volsdf"}},
    "unipad-lidar, density": {
        "field": {"kind": "density"},
        "sampler": {"kind": "even"},
        "losses": NO_DISTANCES,
    },
    "unipad-fusion, concat": {"fusion": "concat"},
    "unipad-fusion, uncertainty": {"losses": {"balance": "uncertainty"}},
    "unipad-fusion, gradnorm": {"losses": {"balance": "gradnorm"}},
    "unipad-lidar, gradnorm": {"losses": {"balance": "gradnorm"}},
    "ns-mae, gradnorm": {"losses": {"balance": "gradnorm"}},
    "ns-mae lidar, uncertainty": {"losses": {"balance": "uncertainty"}},
}


@pytest.fixture(scope="module")
def batches():
    made = {}
    return lambda variant: made.setdefault(variant, batch_of(scenes_for(variant)[:1]))


@pytest.mark.parametrize("choice", CHOICES)
def test_a_step_with(choice, batches):
    variant = choice.split(", ")[0]
    recipe, batch = build(variant, **CHOICES[choice]), batches(variant)
    terms = recipe(batch)
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values())
    for name, encoder in recipe.encoders().items():
        pulls = [p.grad.abs().sum() for p in encoder.parameters() if p.grad is not None]
        assert sum(pulls) > 0, name
    if recipe.balance is not None:
        assert all(p.grad.abs().sum() > 0 for p in recipe.balance.parameters())
    with torch.no_grad():  # as it is drawn and scored, where there is no step
        targets = recipe.targets(batch)
        rendered = recipe.render(recipe.encode(batch), targets.rays)
        assert rendered.depth.isfinite().all() and set(recipe(batch)) | {"gradnorm"} >= set(terms)


REFUSED = {
    "unipad-lidar, distances of a density": (
        {"field": {"kind": "density"}, "sampler": {"kind": "even"}},
        r"^field: expected signed distances for losses\.free_space, losses\.sdf, got DensityField; "
        r"set losses\.free_space=0 losses\.sdf=0$",
    ),
    "unipad-lidar, importance of a density": (
        {"field": {"kind": "density"}, "losses": NO_DISTANCES},
        r"^sampler\.kind: expected one of even, .* for DensityField, .* got neus_importance$",
    ),
    "ns-mae, importance of occupancy": (
        {"sampler": {"kind": "neus_importance"}},
        r"^sampler\.kind: expected one of even, .* for OccupancyField, .* got neus_importance$",
    ),
    "unipad-lidar, another fusion": ({"fusion": "product"}, r"^fusion: input should be 'sum' or 'concat'"),
    "ns-mae, another balance": ({"losses": {"balance": "equal"}}, r"^losses\.balance: input should be"),
    "unipad-camera, another network": (
        {"image": {"backbone": "vgg"}},
        r"^image\.backbone: expected convnext, resnet or timm:NAME, got vgg$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case):
    changes, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        build(case.split(", ")[0], **changes)


def test_a_density_has_no_surface_for_a_mesh():
    recipe = build("unipad-lidar", **CHOICES["unipad-lidar, density"])
    with pytest.raises(ValueError, match=r"^field\.kind: expected sdf for a surface, got density$"):
        recipe.surface_field()


def test_samples_gather_at_a_steps_returns_and_no_measured_depth_reaches_a_picture(batches):
    batch = batches("unipad-lidar")
    recipe = build("unipad-lidar", sampler={"kind": "near_surface", "width": 0.5, "num_samples": 16})
    targets = recipe.targets(batch)
    volume = recipe.encode(batch)
    step = recipe.renderer.sampler.of_step(batch, targets)
    distance = (step(volume, targets.rays).t_mids - targets.depth[..., None]).abs()
    assert ((distance < 1).sum(-1) >= 6)[targets.hit].all()  # half of them, less the outermost
    alone = recipe.renderer.sampler(volume, targets.rays).t_mids
    assert not torch.equal(alone, step(volume, targets.rays).t_mids)
    wrong = replace(targets, depth=targets.depth * 2)
    assert torch.equal(recipe.renderer.sampler(volume, wrong.rays).t_mids, alone)


def test_occupied_space_is_where_points_are_or_next_to_them(batches):
    batch = batches("unipad-lidar")
    recipe = build("unipad-lidar", sampler={"kind": "occupied", "step": 0.4, "num_samples": 64})
    grid, targets, volume = recipe.grid, recipe.targets(batch), recipe.encode(batch)
    samples = recipe.renderer.sampler.of_step(batch, targets)(volume, targets.rays)
    assert 0.1 < samples.valid.float().mean() < 0.9
    held = grid.occupied(batch.points.xyz, batch.points.valid)
    for b in range(batch.size):
        places = targets.rays.at(samples.t_mids)[b][samples.valid[b]]
        gap = (grid.cells(places)[:, None] - held[b].nonzero()[None]).abs().amax(-1).amin(1)
        assert gap.max() <= 1 and gap.max() > 0


@pytest.mark.parametrize(("kind", "type_"), [("uncertainty", UncertaintyWeights), ("gradnorm", GradNorm)])
def test_what_balances_is_trained_without_decay_and_stays_behind(kind, type_):
    recipe = build("unipad-lidar", losses={"balance": kind})
    assert isinstance(recipe.balance, type_)
    assert recipe.balance.names == ("depth", "rgb", "free_space", "sdf")
    own = {id(p) for p in recipe.balance.parameters()}
    optimizer = build_optimizer(recipe, OptimizationConfig(weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {key for key, decay in decays.items() if decay == 0} == own
    assert not own & {id(p) for part in recipe.encoders().values() for p in part.parameters()}


def test_what_moves_only_the_weights_is_in_no_curve(batches):
    recipe, asked = build("ns-mae lidar", losses={"balance": "gradnorm"}), OptimizationConfig(lr=0.1)
    optimizer = build_optimizer(recipe, asked)
    stepper = Stepper(recipe, optimizer, asked, Process(0, 1, torch.device("cpu")), 0)
    before = recipe.balance.weights().detach().clone()
    row = stepper.read(stepper.take(1, iter([batches("ns-mae lidar")]))).row
    assert {name for name in row if name.startswith("loss/")} == {"loss/bev_depth", "loss/ray_depth"}
    assert row["loss"] == row["loss/bev_depth"] + row["loss/ray_depth"]
    assert not torch.equal(recipe.balance.weights(), before)
