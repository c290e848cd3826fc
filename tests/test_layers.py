"""Imports point down: a module uses only layers below its own, and siblings know nothing of each other."""

import ast
from pathlib import Path

import pytest

import renderpretrain

LAYERS = [
    {"checks", "storage", "terminal"},
    {"ops"},
    {"geometry"},
    {"masking", "encoders", "lifters", "samplers", "fields", "losses", "teachers"},
    {"renderers"},
    {"data", "viz"},
    {"recipes"},
    {"runs"},
    {"training", "transfer", "probes"},
    {"verbs"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ROOT = Path(renderpretrain.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def layer_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_layers(node):
    """The layers an import reaches; the package itself counts as ``geometry``, which it re-exports."""
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
        if node.module == "renderpretrain":
            names = [f"renderpretrain.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        return []
    ours = [name.split(".") for name in names if name.split(".")[0] == "renderpretrain"]
    return [parts[1] if len(parts) > 1 and parts[1] in LEVEL else "geometry" for parts in ours]


def upward(source, layer):
    """Imports of a source text that its layer may not have."""
    found = [target for node in ast.walk(ast.parse(source)) for target in imported_layers(node)]
    return [target for target in found if target != layer and LEVEL[target] >= LEVEL[layer]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    layer = layer_of(path)
    if layer != "__init__":
        assert layer in LEVEL, f"{layer} has no place in the house"
        assert upward(path.read_text(), layer) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_absolute_and_at_the_top(path):
    tree = ast.parse(path.read_text())
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    if layer_of(path) in ("cli", "__init__"):
        return  # the command line must start before torch is imported
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = [n.lineno for function in functions for n in ast.walk(function) if imported_layers(n)]
    assert inside == []


def test_the_test_sees_what_it_forbids():
    assert upward("from renderpretrain.data import Scene", "recipes") == []
    assert upward("from renderpretrain import losses, ops", "renderers") == []
    assert upward("from renderpretrain.viz import ramp", "data") == ["viz"]
    assert upward("import renderpretrain.cli", "training") == ["cli"]
    assert upward("from renderpretrain import fields", "lifters") == ["fields"]
    assert upward("from renderpretrain import VoxelGrid", "ops") == ["geometry"]
    assert upward("def f():\n    from renderpretrain.training import fit", "recipes") == ["training"]
