import torch
from torch.testing import assert_close

from renderpretrain.data.synthetic.textures import PATTERNS, Surface, band, grain, paint, stripes


def test_stripes_are_the_mean_of_the_pattern_over_the_footprint():
    x, width = torch.linspace(-3, 3, 61), 0.37
    offsets = (torch.arange(4000) + 0.5) / 4000 - 0.5
    inside = torch.remainder(x[:, None] + width * offsets, 1.3)
    mean = ((inside >= 0.2) & (inside <= 0.7)).float().mean(-1)
    measured = stripes(x, 1.3, 0.2, 0.7, torch.full_like(x, width))
    assert_close(measured, mean, atol=1e-3, rtol=0)  # the sum has 4000 terms and two edges


def test_a_footprint_of_many_periods_sees_the_average():
    x = torch.linspace(0, 1, 5)
    assert_close(stripes(x, 0.1, 0.0, 0.03, torch.full_like(x, 10.0)), torch.full_like(x, 0.3))


def test_band_by_hand():
    x = torch.tensor([0.0, 1.0, 2.0])
    assert_close(band(x, 0.0, 1.0, torch.ones(3)), torch.tensor([0.5, 0.5, 0.0]))


def test_grain_is_constant_in_a_cell_and_fades_with_distance():
    points = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9], [1.1, 0.1, 0.1]])
    near = grain(points, 1.0, torch.full((3,), 0.01))
    assert near[0] == near[1] != near[2]
    assert grain(points, 1.0, torch.full((3,), 50.0)).abs().max() <= 1 / 50


def test_every_pattern_gives_colours_between_black_and_white():
    count = 500
    surface = Surface(
        points=torch.randn(count, 3) * 3,
        normals=torch.eye(3)[torch.randint(3, (count,))],
        half_sizes=torch.rand(count, 3) * 5 + 0.5,
        colors=torch.rand(count, 3),
        footprints=torch.rand(count) + 1e-3,
    )
    for pattern in (0, *PATTERNS):
        colors = paint(surface, torch.full((count,), pattern))
        assert colors.min() >= 0 and colors.max() <= 1 and colors.isfinite().all()
