"""What a step is said to cost, compared with steps that were taken."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from renderpretrain import ops
from renderpretrain.data import Batch, SyntheticRoom, SyntheticStreet, collate
from renderpretrain.geometry import Points
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.settings import resolve
from renderpretrain.training import enlarge_images, step_cost, with_fake_tensors
from renderpretrain.training.cost import Meter

SMALL = {
    "ns-mae": {"image_size": [64, 96], "image": {"depths": [1, 1, 1, 1], "width": 16}},
    "ponder-indoor": {"image_size": [48, 64], "sampler": {"num_samples": 24}, "rays": {"per_view": 32}},
}


@cache
def job(name):
    """A recipe's builder, a batch, and how it is optimised."""
    entry = RECIPES[name]
    config = resolve(entry.presets["tiny"], [SMALL[name]])
    data = SyntheticStreet(2, image_size=(64, 96), points_per_beam=100, with_truth=False)
    if name == "ponder-indoor":
        data = SyntheticRoom(2, image_size=(48, 64), num_points=2048, with_truth=False)
    return lambda: entry.build(config), collate([data[0], data[1]], torch.arange(2)), config.optimization


@cache
def told_of(name):
    """What a step is said to cost, by shapes alone."""
    build, batch, optimization = job(name)
    return step_cost(with_fake_tensors(build), batch, optimization)


@pytest.mark.untyped  # the recipes' own tests check the shapes of such a step
@pytest.mark.parametrize("name", SMALL)
def test_shapes_alone_cost_what_numbers_do(name):
    build, batch, optimization = job(name)
    told, taken = told_of(name), step_cost(build(), batch, optimization)
    shares = [getattr(told, name) / getattr(taken, name) for name in told.__dataclass_fields__]
    assert shares[:2] == [1.0, 1.0] and shares == pytest.approx([1.0] * 8, rel=0.01)


@pytest.mark.untyped  # as above
def test_shapes_alone_cost_what_numbers_do_in_bfloat16():
    """NS-MAE has no 3D convolution, of which a CPU's bfloat16 gradient is not safe."""
    build, batch, optimization = job("ns-mae")
    told = step_cost(with_fake_tensors(build), batch, optimization.model_copy(update={"precision": "bf16"}))
    recipe = build()
    assert not any(isinstance(m, (nn.Conv3d, nn.ConvTranspose3d)) for m in recipe.modules())
    parts = batch, batch.points, batch.views, batch.views.cameras
    given = [value for part in parts for value in vars(part).values() if isinstance(value, torch.Tensor)]
    with Meter([*recipe.parameters(), *recipe.buffers(), *given]) as meter:
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(value.float() for value in recipe(batch).values())
        forward, kept = meter.flops, meter.now
        loss.backward()
    assert (told.forward_flops, told.step_flops) == (forward, meter.flops)
    # The copies of weights that autocast keeps live on a little longer where there are numbers.
    assert told.kept == pytest.approx(kept, rel=0.01)
    most = told.peak - told.weights - told.optimizer - told.batch
    assert most == pytest.approx(meter.most, rel=0.01)


class Filter(nn.Module):
    """A recipe of one 3D convolution that says whether it was run in mixed precision."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv3d(1, 4, 3)

    def forward(self, batch):
        self.mixed = torch.is_autocast_enabled("cpu")
        return {"sum": self.layer(batch.points.xyz.new_ones(1, 1, 8, 8, 8)).square().sum()}


def test_numbers_are_never_counted_in_bfloat16_on_a_cpu():
    """Its gradient by the weights of a 3D convolution may write past its memory; shapes have none."""
    data = SyntheticStreet(1, image_size=(8, 8), with_truth=False)[0]
    batch = collate([data], torch.zeros(1, dtype=torch.long))
    full, half = (OptimizationConfig(precision=precision) for precision in ("fp32", "bf16"))
    real, shapes = Filter(), with_fake_tensors(Filter)
    taken, told = step_cost(real, batch, half), step_cost(shapes, batch, half)
    assert (real.mixed, shapes.mixed) == (False, True)
    assert taken == step_cost(real, batch, full)
    assert told.kept < taken.kept and told.step_flops == taken.step_flops


@pytest.mark.untyped  # as above
@pytest.mark.parametrize("name", SMALL)
def test_activations_are_what_autograd_saves(name):
    build, batch, _ = job(name)
    told = told_of(name)
    recipe, saved = build(), {}
    own = {p.untyped_storage().data_ptr() for p in (*recipe.parameters(), *recipe.buffers())}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = recipe(batch)
    assert terms
    # What is saved on the way and given back again, as by the gradient of the field, is in the sum but not
    # in the estimate; what an operator keeps by other means is in the estimate but not in the sum.
    assert told.kept / 1.5 < sum(saved.values()) < told.kept * 1.5
    assert told.kept < told.peak


class Linear(nn.Module):
    """A recipe of one matrix."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 32, bias=False)

    def forward(self, batch):
        return {"sum": self.layer(batch.points.xyz).square().sum()}


def test_a_matrix_costs_what_is_known_of_it():
    batch = Batch(("a",), Points.from_table(torch.randn(1, 100, 3)), torch.zeros(1, dtype=torch.long))
    sgd = OptimizationConfig(optimizer="sgd")
    told, adam = (step_cost(Linear(), batch, o) for o in (sgd, OptimizationConfig()))
    matrix, result = 3 * 32 * 4, 100 * 32 * 4
    assert (told.weights, told.gradients, told.optimizer, adam.optimizer) == (matrix,) * 3 + (2 * matrix,)
    # Places, intensity, lag and mark of every point; where the sensor is; a seed.
    assert told.batch == 100 * (3 * 4 + 4 + 4 + 1) + 3 * 4 + 8
    # The points are no leaf: there is no gradient by them.
    assert (told.forward_flops, told.step_flops) == (2 * 100 * 3 * 32, 2 * 2 * 100 * 3 * 32)
    # Its square needs the product; the sum is one number, as are the terms' stack and total.
    assert result < told.kept < result + 64
    assert told.peak >= told.kept + 2 * matrix


def test_a_sparse_convolution_costs_its_pairs():
    coords = (torch.rand(1, 6, 6, 6) < 0.3).nonzero().int()
    table = ops.submanifold_neighbors(coords, (1, 6, 6, 6), (3, 3, 3))
    features, kernel = torch.randn(len(coords), 5), torch.randn(27, 5, 7)
    cells = {tuple(c) for c in coords.tolist()}
    pairs = sum(
        (b, z + k, y + j, x + i) in cells
        for b, z, y, x in cells
        for k in (-1, 0, 1)
        for j in (-1, 0, 1)
        for i in (-1, 0, 1)
    )
    with Meter() as meter, FlopCounterMode(display=False) as counter:
        ops.sparse_conv3d(features, kernel, table)
    assert meter.flops == counter.get_total_flops() == 2 * pairs * 5 * 7


@pytest.mark.skipif(not ops.has_native("cpu"), reason="composed fields are counted product by product")
@pytest.mark.parametrize("slopes", [True, False])
def test_a_field_costs_what_its_products_do(slopes):
    """PyTorch counts those of the same field composed; on the way back the kernels compute it once more."""
    colour = ops.FieldHead(ops.InjectedShape(5 + 3 + 3, 6, 3, 2, activation="relu"))
    shape = ops.FieldShape(ops.InjectedShape(5, 7, 4, 2), 2.0, 0, (colour,) if slopes else ())
    points, places = 2 * 30, torch.rand(2, 30, 3).requires_grad_()
    volume, parameters = torch.rand(2, 5, 3, 4, 5).requires_grad_(), torch.rand(shape.num_parameters)
    inputs = volume, places, parameters.requires_grad_(), (1.0,) * 3, (0.0,) * 3, shape
    counts = []
    for operator in (ops.sdf_field, ops.sdf_field_reference):
        with Meter(inputs[:3]) as meter:
            found = operator(*inputs, wanted=ops.FieldOutputs(slopes))
            forward = meter.flops
            said = found.heads[0].sum() + found.gradients.sum() if slopes else 0.0
            torch.autograd.grad(found.sdf.sum() + said, inputs[:3])
        counts.append((forward, meter.flops - forward))
    (forward, backward), (products, reversed_products) = counts
    reads = (1 + slopes) * 2 * 8 * points * 5  # a multiply-add at each corner, which gathers are none of
    assert forward == products + reads
    assert backward == products + reversed_products + 2 * reads


@pytest.mark.skipif(not ops.has_native("cpu"), reason="a composed network is counted product by product")
def test_a_network_costs_what_its_products_do():
    shape = ops.InjectedShape(5, 7, 4, 2)
    known, places = torch.rand(2, 30, 5).requires_grad_(), torch.rand(2, 30, 3).requires_grad_()
    inputs = known, torch.rand(shape.num_parameters).requires_grad_(), places
    counts = []
    for operator in (ops.fused_mlp, ops.fused_mlp_reference):
        with Meter(inputs) as meter:
            said = operator([known], inputs[1], shape, positions=places)
            forward = meter.flops
            torch.autograd.grad(said.sum(), inputs)
        counts.append((forward, meter.flops - forward))
    (forward, backward), (products, reversed_products) = counts
    assert (forward, backward) == (products, products + reversed_products)


def test_grouped_convolutions_cost_as_much_again_per_gradient():
    """PyTorch's own counter takes every group for all channels."""
    convolution, images = nn.Conv2d(8, 8, 7, padding=3, groups=8), torch.randn(2, 8, 9, 9, requires_grad=True)
    with Meter() as meter:
        result = convolution(images)
        assert meter.flops == 2 * result.numel() * 49
        result.sum().backward()
    assert meter.flops == 3 * 2 * result.numel() * 49


def test_the_meter_lets_go_of_what_is_gone():
    with Meter() as meter:
        first = torch.zeros(1000)
        second = first + 1
        view = second[:10]
        assert meter.now == 8000
        del first, second
        assert meter.now == 4000  # the view keeps all of it
        del view
    assert (meter.now, meter.most) == (0, 8000)


def test_enlarged_images_are_seen_by_the_same_cameras():
    room = SyntheticRoom(1, image_size=(12, 16), num_views=2, num_points=256, with_truth=False)[0]
    batch = collate([room], torch.zeros(1, dtype=torch.long))
    small, large = batch.views, enlarge_images(batch, (24, 32)).views
    assert large.images.shape == (1, 2, 3, 24, 32) and large.cameras.image_size == (24, 32)
    assert torch.equal(large.z_depths[..., ::2, 1::2], small.z_depths)
    assert torch.equal(large.z_depth_valid[..., 1::2, ::2], small.z_depth_valid)
    assert torch.equal(large.labels[..., 1::2, ::2], small.labels)
    points = batch.points.xyz[0, :50]
    assert_close(large.cameras[0, 0].project(points)[0], 2 * small.cameras[0, 0].project(points)[0])
