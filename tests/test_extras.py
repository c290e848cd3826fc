"""An extra installs what the package imports: one that nothing imports promises what is not there."""

import ast
import functools
import re
from pathlib import Path

import pytest

import renderpretrain

ROOT = Path(renderpretrain.__file__).parent
TOOLS = {"dev", "docs"}
"""Extras of commands that the Makefile runs, rather than of modules."""

MODULES = {
    "spconv-cu120": "spconv.pytorch",
    "spconv-cu126": "spconv.pytorch",
    "torch-scatter": "torch_scatter",
    "scikit-image": "skimage",
    "tensorboard": "torch.utils.tensorboard",
}
"""What a distribution is imported as, where that is not its name."""


def extras():
    """The distributions of every extra but those of tools and of other extras."""
    text = (ROOT.parent / "pyproject.toml").read_text()
    [section] = re.findall(r"^\[project.optional-dependencies\]\n(.*?)\n\[", text, re.M | re.S)
    found = re.findall(r"^(\w+) = \[(.*?)\]$", section, re.M | re.S)
    names = {extra: re.findall(r"\"([\w-]+)(?=[\[<>=;\"])", listed) for extra, listed in found}
    return {extra: set(listed) - {"renderpretrain"} for extra, listed in names.items() if extra not in TOOLS}


@functools.cache
def imported():
    """All modules that the package imports, also those that it names when it asks for them."""
    names = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                names |= {str(node.args[0].value)} if "import" in called else set()
    return names


@pytest.mark.parametrize("extra", extras())
def test_each_extra_is_imported_by_something(extra):
    seen = imported()
    modules = {MODULES.get(name, name.replace("-", "_")) for name in extras()[extra]}
    assert modules <= {".".join(name.split(".")[:n]) for name in seen for n in range(1, 5)}


def test_the_test_sees_the_extras():
    found = extras()
    assert len(found) > 8 and found["spconv"] == {"spconv-cu120", "spconv-cu126"} and found["card"] == set()
    assert "skimage.measure" in imported() and "onnxruntime" in imported()
    assert not {"open_clip", "webdataset"} & imported()
