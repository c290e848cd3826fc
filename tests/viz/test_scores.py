from PIL import Image

from renderpretrain.viz import ScoreLine, ScorePanel, save_score_lines


def test_a_plot_has_a_panel_for_each_and_colors_of_both_kinds(tmp_path):
    lines = [
        ScoreLine("scratch", [(5, 0.1), (10, 0.3), (15, 0.3)], kept=10, falling=10),
        ScoreLine("scratch", [(5, 0.2)], kept=5, falling=5),
        ScoreLine("pre-trained", [(5, 0.3), (10, 0.4)], kept=10, falling=5),
    ]
    path = save_score_lines(tmp_path / "new" / "plot.png", [ScorePanel("one", "miou", lines)] * 2)
    picture = Image.open(path).convert("RGB")
    assert picture.size == (2 * 4.6 * 120, 3.4 * 120)
    half = picture.crop((0, 0, picture.width // 2, picture.height))
    colors = {color for _, color in half.getcolors(1 << 20)}
    assert any(r > 180 and g < 110 and b < 80 for r, g, b in colors)  # the second kind's line
    one = save_score_lines(tmp_path / "one.png", [ScorePanel("one", "miou", lines[:1])])
    colors = {color for _, color in Image.open(one).convert("RGB").getcolors(1 << 20)}
    assert not any(r > 180 and g < 110 and b < 80 for r, g, b in colors)


def test_trainings_of_a_kind_have_their_mean_before_them(tmp_path):
    """Two trainings far apart: between them lies the line of the mean, and nothing else."""
    apart = [ScoreLine("scratch", [(0, y), (10, y)], kept=10, falling=10) for y in (0.0, 1.0)]
    paths = [
        save_score_lines(tmp_path / f"{len(lines)}.png", [ScorePanel("one", "miou", lines)])
        for lines in (apart, apart[:1])
    ]
    both, alone = (Image.open(path).convert("L") for path in paths)
    across = [[picture.getpixel((280, y)) for y in range(60, 300)] for picture in (both, alone)]
    dark = [sum(value < 170 for value in column) for column in across]
    assert dark[0] >= 3 and dark[1] <= 2  # as wide as the mean's line; one training has no mean
