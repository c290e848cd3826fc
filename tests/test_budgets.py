"""A file fits in the head, a function on a screen, and every public name says what it means."""

import ast
from pathlib import Path

import pytest

import renderpretrain

ROOT = Path(renderpretrain.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FILE_LINES = 300
METHOD_LINES = 450
METHODS = {
    f"recipes/{name}.py" for name in ("unipad", "ponder_outdoor", "ponder_indoor", "ns_mae", "uniscene")
}
"""A published method is one file: its class, its numbers, how it is built."""

FUNCTION_LINES = 40
WORDS = 5
"""Of the docstring of a public name, at the least."""


def body_lines(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def code_lines(text, tree):
    """Lines of a file without its docstrings and blank lines."""
    described = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [
        node.body[0] for node in ast.walk(tree) if isinstance(node, described) and ast.get_docstring(node)
    ]
    # What stands below a constant or a field, too.
    texts += [n for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    words = {line for node in texts for line in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if line.strip() and number not in words)


def functions_of(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text, method = path.read_text(), str(path.relative_to(ROOT)) in METHODS
    tree = ast.parse(text)
    assert code_lines(text, tree) <= (METHOD_LINES if method else FILE_LINES)
    long = {f.name: body_lines(f) for f in functions_of(tree) if body_lines(f) > FUNCTION_LINES}
    assert long == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the first lines of a file say what it is"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    public += [m for c in public if isinstance(c, ast.ClassDef) for m in c.body if isinstance(m, kinds)]
    texts = [(n.name, ast.get_docstring(n) or "") for n in public if not n.name.startswith("_")]
    # Fewer words say nothing out of context.
    assert [(name, text) for name, text in texts if len(text.split()) < WORDS] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_exported_exists_once(path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if isinstance(node, ast.Assign) and "__all__" in names:
            exported = ast.literal_eval(node.value)
            assert len(exported) == len(set(exported))
