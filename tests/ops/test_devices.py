"""Every operator refuses, by the argument's name, tensors of which one lies on another device."""

import pytest
import torch

from renderpretrain import ops

FRAME = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
BOX = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SHAPE = (2, 3, 4)


def placed(function, *rest, **options):
    """The function of its tensors alone, by name; the rest comes behind them."""
    return lambda **tensors: function(*tensors.values(), *rest, **options)


def ray_calls():
    """By name: what to call, and the tensors it takes by name, the leader first."""
    rays, values, near = torch.rand(2, 5), torch.rand(2, 5, 3), torch.rand(4)
    surface = {"sdf": rays, "cosines": -rays, "deltas": rays}
    inv_s, offsets = torch.tensor(9.0), torch.tensor([0, 4])
    samples = {"values": values, "t": rays, "valid": rays > 0}
    return {
        "accumulate": (ops.accumulate, {"weights": rays, "values": values}),
        "composite": (ops.composite, {"alphas": rays, "valid": rays > 0}),
        "composite_values": (ops.composite_values, {"alphas": rays, **samples}),
        "distortion_loss": (
            ops.distortion_loss,
            {"weights": near, "t_starts": near, "t_ends": near, "offsets": offsets},
        ),
        "neus_alphas": (ops.neus_alphas, {**surface, "inv_s": inv_s}),
        "neus_render": (ops.neus_render, {**surface, "inv_s": inv_s, **samples}),
        "neus_upsample": (
            lambda positions, sdf, u: ops.neus_upsample(positions, sdf, 9.0, 5, u),
            {"positions": rays, "sdf": rays, "u": rays},
        ),
        "resample": (ops.resample, {"edges": rays, "weights": rays[:, 1:], "u": rays}),
        "segment_exclusive_sum": (ops.segment_exclusive_sum, {"x": near, "offsets": offsets}),
    }


def grid_calls():
    """As ray_calls: what knows where things are."""
    points, seen, volume = torch.rand(1, 4, 3), torch.ones(1, 4, dtype=torch.bool), torch.rand(1, 3, *SHAPE)
    beams = {"origins": points, "directions": points}
    spans = {"t_near": points[..., 0], "t_far": points[..., 0]}
    occupied, read = torch.ones(1, *SHAPE, dtype=torch.bool), {"volume": volume, "points": points}
    return {
        "box_intersect": (placed(ops.box_intersect, *BOX), beams),
        "frustum_coordinates": (
            placed(ops.frustum_coordinates, (0.0, 1.0)),
            {"points": points[0], "matrices": torch.rand(2, 3, 4)},
        ),
        "grid_sample": (placed(ops.grid_sample, *FRAME), read),
        "grid_sample_vjp": (placed(ops.grid_sample_vjp, *FRAME), {**read, "cotangents": points}),
        "march": (placed(ops.march, *FRAME, 0.5, capacity=3), {**beams, **spans, "occupied": occupied}),
        "raycast_grid": (
            placed(ops.raycast_grid, SHAPE, *FRAME),
            {"origins": points, "ends": points, "valid": seen},
        ),
        "splat": (
            lambda values, points, valid: ops.splat(values, points, SHAPE, *FRAME, valid=valid),
            {"values": points, "points": points, "valid": seen},
        ),
        "voxel_index": (placed(ops.voxel_index, SHAPE, *BOX, *FRAME), {"points": points, "valid": seen}),
    }


def feature_calls():
    """As ray_calls: what works on maps and rows of features."""
    rows, table, maps = torch.rand(5, 2), torch.zeros(1, 5, dtype=torch.int32), torch.rand(1, 1, 3, 2, 2)
    where, seen = torch.rand(1, 1, 4, 3), torch.ones(1, 1, 4, dtype=torch.bool)
    return {
        "image_lift": (
            ops.image_lift,
            {"features": maps, "probabilities": maps, "coordinates": where, "valid": seen},
        ),
        "sparse_conv3d": (
            ops.sparse_conv3d,
            {"features": rows, "kernel": torch.rand(1, 2, 3), "inputs": table, "outputs": table},
        ),
        "voxel_scatter": (placed(ops.voxel_scatter, 4), {"values": rows, "index": torch.arange(5) % 4}),
    }


def calls():
    return {**ray_calls(), **grid_calls(), **feature_calls()}


CASES = [(name, argument) for name, (_, tensors) in calls().items() for argument in [*tensors][1:]]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_an_argument_on_another_device_is_named(name, argument):
    call, tensors = calls()[name]
    call(**tensors)
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*cpu.*meta"):
        call(**{**tensors, argument: tensors[argument].to("meta")})


@pytest.mark.parametrize("name", calls())
def test_a_leader_on_another_device_than_the_rest_is_refused(name):
    call, tensors = calls()[name]
    leader = next(iter(tensors))
    with pytest.raises(ValueError, match=r": expected .*meta.*cpu"):
        call(**{**tensors, leader: tensors[leader].to("meta")})


@pytest.mark.untyped
@pytest.mark.parametrize(("name", "argument"), [case for case in CASES if case[1] in ("valid", "occupied")])
def test_a_mask_of_numbers_is_refused(name, argument):
    call, tensors = calls()[name]
    with pytest.raises(ValueError, match=rf"^{argument}: expected torch\.bool of shape .*got torch\.float32"):
        call(**{**tensors, argument: tensors[argument].float()})


def test_plans_are_of_one_type_and_on_one_device():
    plan = ops.scatter_plan(torch.tensor([0, 1, 0]), 2)
    values, index = torch.rand(3, 2), torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match=r"order: expected torch\.int32 on cpu, got torch\.int64"):
        ops.ScatterPlan(plan.order.long(), plan.offsets)
    with pytest.raises(ValueError, match=r"order: expected torch\.int32 on meta, got torch\.int32 on cpu"):
        ops.ScatterPlan(plan.order, plan.offsets.to("meta"))
    elsewhere = ops.ScatterPlan(plan.order.to("meta"), plan.offsets.to("meta"))
    with pytest.raises(ValueError, match="plan: expected one on cpu like values, got meta"):
        ops.voxel_scatter(values, index, 2, plan=elsewhere)
    lift = ops.lss_plan(torch.zeros(1, 2, 1, 1, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match=r"bins: expected torch\.int32 on cpu, got torch\.int32 on meta"):
        ops.LssPlan(lift.cells, lift.order, lift.starts, lift.pixels, lift.bins.to("meta"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs two devices with kernels")
def test_a_kernel_is_not_given_addresses_of_two_devices():
    with pytest.raises(ValueError, match="composite: valid: expected the device of the others, got cuda"):
        valid = torch.ones(3, dtype=torch.bool, device="cuda")
        torch.ops.renderpretrain.composite(torch.rand(3), valid)
