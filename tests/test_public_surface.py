"""``import renderpretrain as rp``: all is reached from there, and nothing is loaded before."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import renderpretrain as rp

ROOT = Path(rp.__file__).parent
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"cli"}


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_package_is_reached_without_an_import_of_its_own():
    assert set(rp.__all__) >= PACKAGES
    names = " ".join(f"rp.{name}.__doc__;" for name in rp.__all__ if name != "__version__")
    python(f"import renderpretrain as rp; {names} rp.fields.SDFField, rp.Points, rp.ops.grid_sample")


def test_names_are_shown_and_documented():
    assert set(dir(rp)) == set(rp.__all__)
    assert all(getattr(rp, name).__doc__ for name in rp.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="has no attribute 'field'"):
        rp.field  # noqa: B018


def test_nothing_is_loaded_before_it_is_asked_for():
    loaded = python("import sys, renderpretrain as rp; dir(rp); print(*sys.modules)").split()
    assert "renderpretrain" in loaded and not {"torch", "numpy", "pydantic"} & set(loaded)


def test_what_is_reached_is_what_type_checkers_see():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    seen = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("renderpretrain")
        for name in node.names
    }
    assert seen == set(rp.__all__) - {"__version__"}
