import torch
from torch.testing import assert_close

from renderpretrain import Rays, RaySamples, VoxelGrid
from renderpretrain.fields import SDFField
from renderpretrain.ops import FieldValues, composite, grid_sample_reference, neus_alphas
from renderpretrain.renderers import VolumeRenderer, render
from renderpretrain.samplers import NeuSImportance

GRID = VoxelGrid((-4.0, -4.0, -4.0, 4.0, 4.0, 4.0), (0.5, 0.5, 0.5))


class Ball(SDFField):
    """A hand-built field: the exact distance to a ball of 1.5 m at the origin."""

    def sdf(self, volume, points):
        return points.norm(dim=-1) - 1.5

    def _values(self, volume, points, rays, valid):
        normals = torch.nn.functional.normalize(points, dim=-1)
        return FieldValues(self.sdf(volume, points), normals, None, None, (torch.zeros_like(points),))


def field(cls=SDFField, sharpness=400.0):
    torch.manual_seed(0)
    return cls(GRID, 8, extent=4.0, sharpness=sharpness)


def test_neus_alphas_by_hand():
    """From 0.5 m before to 0.5 m behind a wall at inv_s = 4: 1 - sigmoid(-2) / sigmoid(2) = 1 - e^-2."""
    alpha = neus_alphas(torch.tensor(0.0), torch.tensor(-1.0), torch.tensor(1.0), torch.tensor(4.0))
    # The law's own epsilon of 1e-5.
    assert_close(alpha, 1 - torch.exp(torch.tensor(-2.0)), rtol=0, atol=2e-5)


def test_leaving_a_surface_has_no_opacity():
    alpha = neus_alphas(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0), torch.tensor(4.0))
    assert_close(alpha, torch.tensor(0.0), rtol=0, atol=2.1e-5)  # epsilon / sigmoid(0)


def test_a_ball_is_rendered_where_it_is():
    """A hand-built distance gives the right depth in metres, to half a fine step, and the right normals."""
    ball = field(Ball)
    renderer = VolumeRenderer(ball, NeuSImportance(ball, 32, 32, near=0.1))
    origins = torch.tensor([[[-3.5, 0.0, 0.0], [0.0, 3.0, 0.3], [0.0, 0.0, 3.5]]])
    rays = Rays.through(origins, torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.0, 0.3], [0.3, 0.0, 0.0]]]))
    with torch.no_grad():
        rendered = renderer(torch.zeros(1, 8, *GRID.shape), rays)
    along = -(rays.origins * rays.directions).sum(-1)
    exact = along - (along**2 - rays.origins.square().sum(-1) + 1.5**2).sqrt()
    assert_close(
        rendered.depth, exact, rtol=0, atol=0.04
    )  # logistic width 1 / inv_s = 0.01 m, fine step about 0.05 m
    assert (rendered.opacity > 0.99).all()
    normals = torch.nn.functional.normalize(rays.at(exact[..., None])[..., 0, :], dim=-1)
    assert_close(rendered.normals, normals, rtol=0, atol=0.05)


def test_rays_that_miss_the_grid_render_as_empty():
    rays = Rays.through(torch.tensor([[[10.0, 10.0, 10.0]]]), torch.tensor([[[20.0, 20.0, 20.0]]]))
    one = field()
    rendered = VolumeRenderer(one, NeuSImportance(one))(torch.randn(1, 8, *GRID.shape), rays)
    assert rendered.opacity.item() == 0 and rendered.depth.item() == 0
    rendered.depth.sum().backward()


def test_gradients_equal_finite_differences():
    f = field().double()
    volume = torch.randn(1, 8, *GRID.shape, dtype=torch.float64)
    points = (torch.rand(1, 20, 3, dtype=torch.float64) - 0.5) * 6
    t = torch.zeros(1, 20, 1, dtype=torch.float64)
    rays = Rays(points, torch.tensor([1.0, 0, 0], dtype=torch.float64).expand(1, 20, 3))
    samples = RaySamples(t, t, torch.ones_like(t, dtype=torch.bool))
    gradients = f._forward(volume, rays, samples).gradients[:, :, 0]
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-6
        difference = (f.sdf(volume, points + step) - f.sdf(volume, points - step)) / 2e-6
        assert_close(gradients[..., axis], difference, rtol=1e-4, atol=1e-5)


def test_an_invalid_sample_has_no_opacity_and_no_gradient():
    f, volume = field(), torch.randn(1, 8, *GRID.shape, requires_grad=True)
    t = torch.linspace(1, 6, 10).expand(1, 3, 10)
    rays = Rays.through(torch.full((1, 3, 3), -3.0), torch.rand(1, 3, 3))
    answer = f(volume, rays, RaySamples(t, t + 0.5, torch.zeros_like(t, dtype=torch.bool)))
    assert not answer.alphas.any()
    answer.alphas.sum().backward()
    assert not volume.grad.any()


def test_without_gradients_nothing_is_kept():
    f, volume = field(), torch.randn(1, 8, *GRID.shape)
    t = torch.linspace(1, 6, 10).expand(1, 3, 10)
    rays = Rays.through(torch.full((1, 3, 3), -3.0), torch.rand(1, 3, 3))
    samples = RaySamples(t, t + 0.5, torch.ones_like(t, dtype=torch.bool))
    with torch.no_grad():
        answer = f(volume, rays, samples)
    assert not answer.sdf.requires_grad and not answer.alphas.requires_grad
    assert_close(answer.alphas, f(volume, rays, samples).alphas.detach())


def test_rendering_is_float32_under_autocast():
    f, volume = field(), torch.randn(1, 8, *GRID.shape)
    renderer = VolumeRenderer(f, NeuSImportance(f))
    rays = Rays.through(torch.full((1, 3, 3), -3.0), torch.rand(1, 3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = renderer(volume, rays)
    full = renderer(volume, rays)
    assert mixed.depth.dtype == torch.float32
    assert_close(mixed.depth, full.depth)
    assert_close(mixed.rgb, full.rgb)


def training_step(f, volume, origins, directions, t):
    """A loss on colour, depth and normals, as the recipes have it."""
    valid = torch.ones(t.shape, dtype=torch.bool)
    answer = f(volume, Rays(origins, directions), RaySamples(t, t + 0.25, valid))
    weights = composite(answer.alphas)
    eikonal = (answer.gradients.norm(dim=-1) - 1).square().mean()
    return eikonal + (weights * t).sum() + (weights[..., None] * answer.channels["rgb"]).square().sum()


def step_arguments(dtype=torch.float32):
    """A volume that learns, and rays through it."""
    volume = torch.randn(1, 8, *GRID.shape, dtype=dtype)
    origins = torch.full((1, 3, 3), -3.0, dtype=dtype)
    directions = torch.nn.functional.normalize(torch.rand(1, 3, 3, dtype=dtype), dim=-1)
    return (
        volume.requires_grad_(),
        origins,
        directions,
        torch.linspace(0.1, 6, 12, dtype=dtype).expand(1, 3, 12),
    )


def test_the_step_with_normals_has_the_gradient_of_automatic_differentiation():
    """The explicit gradient of the distance against ``create_graph``, in float64."""

    class Automatic(SDFField):
        def _values(self, volume, points, rays, valid):
            points = points.detach().requires_grad_()
            features = grid_sample_reference(volume, points, self.grid.scale, self.grid.offset)
            out = self.distance(points / self.extent, features)
            sdf = out[..., 0] * self.extent
            (gradients,) = torch.autograd.grad(sdf.sum(), points, create_graph=True)
            directions = rays.directions.repeat_interleave(points.shape[1] // rays.shape[1], 1)
            known = torch.cat([directions, features, gradients, out[..., 1:]], -1)
            color = torch.sigmoid(self.heads.colour(points / self.extent, known))
            return FieldValues(sdf, gradients, None, None, (color,))

    f = field(sharpness=8.0).double()
    automatic = field(Automatic, sharpness=8.0).double()
    automatic.load_state_dict(f.state_dict())
    arguments = step_arguments(torch.float64)
    results = []
    for version in (f, automatic):
        loss = training_step(version, *arguments)
        results.append([loss, *torch.autograd.grad(loss, [arguments[0], *version.parameters()])])
    assert results[0][1].any()
    assert_close(*results)


class Called(torch.nn.Module):
    """A function of a field's parameters."""

    def __init__(self, field, function):
        super().__init__()
        self.field, self.forward = field, function


def test_the_gradient_of_a_rendered_depth_equals_finite_differences():
    """By the volume and by every parameter, along a random direction, in float64."""
    f = field(sharpness=40.0).double()
    volume, origins, directions, t = step_arguments(torch.float64)
    rays = Rays(origins, directions)
    samples = RaySamples(t, t + 0.25, torch.ones(t.shape, dtype=torch.bool))
    called = Called(f, lambda volume: render(f._forward(volume, rays, samples), samples).depth.square().sum())
    names = [name for name, _ in called.named_parameters()]
    leaves = [volume, *called.parameters()]
    towards = [torch.randn_like(x) for x in leaves]

    def depth(step):
        moved = [x.detach() + step * d for x, d in zip(leaves, towards, strict=True)]
        return torch.func.functional_call(called, dict(zip(names, moved[1:], strict=True)), moved[0])

    grads = torch.autograd.grad(called(volume), leaves, allow_unused=True)  # colour has no part in it
    slope = sum((g * d).sum() for g, d in zip(grads, towards, strict=True) if g is not None)
    step = 1e-6
    difference = (depth(step) - depth(-step)) / (2 * step)
    # softplus(100 x) bends within 1e-2: the quotient is good to (100 step)^2 and to rounding.
    assert abs(float(slope)) > 1e-2
    assert_close(difference, slope.detach(), rtol=1e-6, atol=1e-7)
