"""Every operator refuses, by the argument's name, tensors of which one lies on another device."""

import pytest
import torch

from renderpretrain import ops

FRAME = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
BOX = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SHAPE = (2, 3, 4)


def calls():
    """By name: what to call, and the tensors it takes by name, the leader first."""
    rays, values, inv_s = torch.rand(2, 5), torch.rand(2, 5, 3), torch.tensor(9.0)
    points, seen = torch.rand(1, 4, 3), torch.ones(1, 4, dtype=torch.bool)
    near = torch.rand(1, 4)
    intervals = {"sdf": rays, "cosines": -rays, "deltas": rays}
    table = torch.zeros(1, 5, dtype=torch.int32)
    beams = {"origins": points, "directions": points, "t_near": near, "t_far": near}
    maps, volume = torch.rand(1, 1, 3, 2, 2), torch.rand(1, 3, *SHAPE)
    offsets, index = torch.tensor([0, 4]), torch.arange(4)
    return {
        "accumulate": (ops.accumulate, {"weights": rays, "values": values}),
        "box_intersect": (
            lambda **given: ops.box_intersect(*given.values(), *BOX),
            {"origins": points, "directions": points},
        ),
        "composite": (ops.composite, {"alphas": rays, "valid": rays > 0}),
        "composite_values": (
            ops.composite_values,
            {"alphas": rays, "values": values, "t": rays, "valid": rays > 0},
        ),
        "distortion_loss": (
            ops.distortion_loss,
            {"weights": near[0], "t_starts": near[0], "t_ends": near[0], "offsets": offsets},
        ),
        "frustum_coordinates": (
            lambda **given: ops.frustum_coordinates(*given.values(), (0.0, 1.0)),
            {"points": points[0], "matrices": torch.rand(2, 3, 4)},
        ),
        "grid_sample": (
            lambda **given: ops.grid_sample(*given.values(), *FRAME),
            {"volume": volume, "points": points},
        ),
        "grid_sample_vjp": (
            lambda **given: ops.grid_sample_vjp(*given.values(), *FRAME),
            {"volume": volume, "points": points, "cotangents": points},
        ),
        "image_lift": (
            ops.image_lift,
            {"features": maps, "probabilities": maps, "coordinates": points[None], "valid": seen[None]},
        ),
        "march": (
            lambda **given: ops.march(*given.values(), *FRAME, 0.5, capacity=3),
            {**beams, "occupied": torch.ones(1, *SHAPE, dtype=torch.bool)},
        ),
        "neus_alphas": (ops.neus_alphas, {**intervals, "inv_s": inv_s}),
        "neus_render": (
            ops.neus_render,
            {**intervals, "t": rays, "inv_s": inv_s, "values": values, "valid": rays > 0},
        ),
        "neus_upsample": (
            lambda positions, sdf, u: ops.neus_upsample(positions, sdf, 9.0, 5, u),
            {"positions": rays, "sdf": rays, "u": rays},
        ),
        "raycast_grid": (
            lambda **given: ops.raycast_grid(*given.values(), SHAPE, *FRAME),
            {"origins": points, "ends": points, "valid": seen},
        ),
        "resample": (ops.resample, {"edges": rays, "weights": rays[:, 1:], "u": rays}),
        "segment_exclusive_sum": (ops.segment_exclusive_sum, {"x": near[0], "offsets": offsets}),
        "sparse_conv3d": (
            ops.sparse_conv3d,
            {"features": rays.mT, "kernel": torch.rand(1, 2, 3), "inputs": table, "outputs": table},
        ),
        "splat": (
            lambda values, points, valid: ops.splat(values, points, SHAPE, *FRAME, valid=valid),
            {"values": points, "points": points, "valid": seen},
        ),
        "voxel_index": (
            lambda **given: ops.voxel_index(*given.values(), SHAPE, *BOX, *FRAME),
            {"points": points, "valid": seen},
        ),
        "voxel_scatter": (
            lambda values, index: ops.voxel_scatter(values, index, 4),
            {"values": points[0], "index": index},
        ),
    }


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
    with pytest.raises(ValueError, match="composite: expected tensors on one device, got cpu and cuda"):
        valid = torch.ones(3, dtype=torch.bool, device="cuda")
        torch.ops.renderpretrain.composite(torch.rand(3), valid)
