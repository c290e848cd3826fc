"""A file fits in the head, a function on a screen, and every public name says what it means."""

import ast
from pathlib import Path

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


def too_long(text, most):
    """What is longer than it may be: the file, functions by their names."""
    tree = ast.parse(text)
    found = {f.name: body_lines(f) for f in functions_of(tree) if body_lines(f) > FUNCTION_LINES}
    return found | ({"the file": code_lines(text, tree)} if code_lines(text, tree) > most else {})


def undocumented(text):
    """Public names of few words, and the file itself where it has none."""
    tree = ast.parse(text)
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    public += [m for c in public if isinstance(c, ast.ClassDef) for m in c.body if isinstance(m, kinds)]
    texts = [(n.name, ast.get_docstring(n) or "") for n in public if not n.name.startswith("_")]
    # Fewer words say nothing out of context.
    found = [(name, said) for name, said in texts if len(said.split()) < WORDS]
    return found if ast.get_docstring(tree) else [("the file", ""), *found]


def exported_twice(text):
    """Names that ``__all__`` has more than once."""
    for node in ast.parse(text).body:
        names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if isinstance(node, ast.Assign) and "__all__" in names:
            exported = ast.literal_eval(node.value)
            return sorted({name for name in exported if exported.count(name) > 1})
    return []


def in_files(look):
    """What is found in which file."""
    found = {str(path.relative_to(ROOT)): look(path) for path in FILES}
    return {path: faults for path, faults in found.items() if faults}


def test_files_and_functions_stay_short():
    def look(path):
        method = str(path.relative_to(ROOT)) in METHODS
        return too_long(path.read_text(), METHOD_LINES if method else FILE_LINES)

    assert in_files(look) == {}


def test_public_names_are_documented():
    assert in_files(lambda path: undocumented(path.read_text())) == {}


def test_everything_exported_exists_once():
    assert in_files(lambda path: exported_twice(path.read_text())) == {}


def test_the_tests_see_what_they_forbid():
    lines = "\n".join(f"    x = {k}" for k in range(FUNCTION_LINES))
    assert too_long(f"def f():\n{lines}", 300) == {"f": FUNCTION_LINES + 1}
    assert too_long('"""Words\nthat do not count."""\nx = 1\ny = 2\n', 1) == {"the file": 2}
    assert undocumented('def f():\n    """Too few words."""') == [("the file", ""), ("f", "Too few words.")]
    assert exported_twice('__all__ = ["a", "b", "a"]') == ["a"]
