"""Imports point down: a module uses only layers below its own, and siblings know nothing of each other."""

import ast
from pathlib import Path

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
    {"training", "transfer", "probes", "report", "viewer"},
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


def test_imports_point_down():
    layers = {path: layer_of(path) for path in FILES if layer_of(path) != "__init__"}
    assert set(layers.values()) <= LEVEL.keys(), "a layer has no place in the house"
    found = {str(path.relative_to(ROOT)): upward(path.read_text(), layer) for path, layer in layers.items()}
    assert {path: targets for path, targets in found.items() if targets} == {}


def inner(source, layer):
    """Lines of imports that are relative, or below the top of a file."""
    tree = ast.parse(source)
    found = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    if layer in ("cli", "__init__"):
        return found  # the command line must start before torch is imported
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return found + [n.lineno for function in functions for n in ast.walk(function) if imported_layers(n)]


def test_imports_are_absolute_and_at_the_top():
    found = {str(path.relative_to(ROOT)): inner(path.read_text(), layer_of(path)) for path in FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_test_sees_what_it_forbids():
    assert upward("from renderpretrain.data import Scene", "recipes") == []
    assert upward("from renderpretrain import losses, ops", "renderers") == []
    assert upward("from renderpretrain.viz import ramp", "data") == ["viz"]
    assert upward("import renderpretrain.cli", "training") == ["cli"]
    assert upward("from renderpretrain import fields", "lifters") == ["fields"]
    assert upward("from renderpretrain import VoxelGrid", "ops") == ["geometry"]
    assert upward("def f():\n    from renderpretrain.training import fit", "recipes") == ["training"]
    assert inner("def f():\n    from renderpretrain import ops", "recipes") == [2]
    assert inner("def f():\n    from renderpretrain import ops", "cli") == []
    assert inner("import torch\nfrom . import ops", "cli") == [2]
