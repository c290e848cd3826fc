"""A file fits in the head, a function on a screen, and every public name says what it means."""

import ast
from pathlib import Path

import pytest

import renderpretrain

ROOT = Path(renderpretrain.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FILE_LINES = 300
FUNCTION_LINES = 40


def body_lines(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def functions_of(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES
    long = {f.name: body_lines(f) for f in functions_of(ast.parse(text)) if body_lines(f) > FUNCTION_LINES}
    assert long == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the first lines of a file say what it is"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    public += [m for c in public if isinstance(c, ast.ClassDef) for m in c.body if isinstance(m, kinds)]
    bare = [n.name for n in public if not n.name.startswith("_") and not ast.get_docstring(n)]
    assert bare == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_exported_exists_once(path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if isinstance(node, ast.Assign) and "__all__" in names:
            exported = ast.literal_eval(node.value)
            assert len(exported) == len(set(exported))
