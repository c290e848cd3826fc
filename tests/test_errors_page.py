"""``docs/hooks/errors.py`` lists every error line: what a user meets is found on its page."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import torch
import yaml

import renderpretrain as rp
from renderpretrain.checks import check_shape

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.untyped


@pytest.fixture(scope="module")
def errors():
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "docs" / "hooks" / "errors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(errors):
    return errors.page()


@pytest.fixture(scope="module")
def templates(page):
    """The page's lines, each with the file that says it."""
    place, found = None, []
    for line in page.splitlines():
        if line.startswith("### "):
            place = line[4:]
        elif said := re.fullmatch(r"- (`+) ?(.+?) ?\1", line):
            found.append((place, said[2]))
    return found


def says(template, message):
    """Whether the message is the template, filled in; who reads a file puts its name in front."""
    pieces = re.split(r"\{\w+\}|…", template)
    if not all(piece in message for piece in pieces):
        return False
    return re.fullmatch("(.*: )?" + ".*".join(map(re.escape, pieces)), message) is not None


def wrong_shape():
    check_shape("rays.origins", torch.zeros(2, 7), "B R 3")


def wrong_grid():
    rp.VoxelGrid((0, 0, 0, 1, 1, 1), (0.3, 0.3, 0.3))


def no_folder():
    rp.data.SceneFolder("/nowhere/at/all")


def unknown_recipe():
    rp.pretrain("unipad-sonar")


def unknown_setting():
    rp.pretrain("unipad-lidar", set={"optimization.speed": 3})


def unknown_host():
    rp.transfer.export_encoders(rp.transfer.from_modules({"a": torch.nn.Linear(2, 2)}), "caffe", "a.pth")


def no_ratio():
    rp.masking.RandomMask(1.5)


def no_weights():
    rp.transfer.load_encoder(__file__)


@pytest.mark.parametrize(
    ("mistake", "place"),
    [
        (wrong_shape, "checks.py"),
        (wrong_grid, "geometry/voxel_grid.py"),
        (no_folder, "data/folder/index.py"),
        (unknown_recipe, "runs/settings.py"),
        (unknown_setting, "runs/settings.py"),
        (unknown_host, "transfer/"),
        (no_ratio, "masking/"),
        (no_weights, "storage/"),
    ],
)
def test_what_a_user_meets_is_found(templates, mistake, place):
    with pytest.raises(ValueError) as error:
        mistake()
    message = " ".join(str(error.value).split())
    found = [file for file, template in templates if says(template, message)]
    assert any(file.startswith(place) for file in found), f"{error.value}: {found}"


def test_every_raise_of_words_is_on_the_page(errors, page):
    """Counted another way: each ``raise Kind("...")`` with a text of several words has its line."""
    missing = []
    for path, nodes in errors.sources():
        for node in nodes:
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                texts = [t for a in node.exc.args[:1] for t in ast.walk(a) if isinstance(t, ast.Constant)]
                texts = [t.value for t in texts if isinstance(t.value, str) and t.value.count(" ") > 3]
                missing += [(path.name, t) for t in texts if " ".join(t.split()) not in page]
    assert missing == []


def test_every_part_says_what_to_do(errors):
    assert set(errors.found()) <= set(errors.CURES)


def test_the_page_is_in_the_navigation():
    class Plain(yaml.SafeLoader):
        """Reads mkdocs.yml without making what it names."""

    Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Plain)
    assert "docs/hooks/errors.py" in config["hooks"] and "errors.md" in str(config["nav"])
