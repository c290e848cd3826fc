"""Names follow the spelling of torch and of the field: ``color``, ``center``, ``normalize``."""

import ast
import re
from pathlib import Path

import renderpretrain

ROOT = Path(renderpretrain.__file__).parent
BRITISH = re.compile(
    r"colour|centre|metre|grey|neighbour|behaviour|labell|"
    r"(normal|optim|initial|voxel|raster|quant|regular|visual|serial|summar|penal|synchron|minim|maxim)is",
    re.IGNORECASE,
)
IN_FILES = {
    ("fields/heads.py", "colour"),  # names weights in checkpoints
    ("probes/plan.py", "labelled"),  # a column of the results of probes
    ("probes/summary.py", "labelled"),
}
"""Names that are written in files of before."""


def names_of(node):
    """The public names that a piece of syntax makes: of classes, functions, arguments and attributes."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        names = [node.name]
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        names = [node.attr]
    elif isinstance(node, ast.arg):
        names = [node.arg]
    else:
        names = []
    if isinstance(node, ast.Module | ast.ClassDef):
        assigned = [n for n in node.body if isinstance(n, ast.Assign | ast.AnnAssign)]
        targets = [t for n in assigned for t in getattr(n, "targets", [getattr(n, "target", None)])]
        names += [t.id for t in targets if isinstance(t, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def british(source):
    nodes = (node for part in ast.parse(source).body for node in ast.walk(part) if not is_private(part))
    found = {name for node in (ast.parse(source), *nodes) for name in names_of(node)}
    return {name for name in found if BRITISH.search(name)}


def is_private(node):
    return getattr(node, "name", "").startswith("_")


def test_names_have_one_spelling():
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in ROOT.rglob("*.py")
        for name in (*british(path.read_text()), *BRITISH.findall(path.stem))
    }
    assert found == IN_FILES


def test_the_test_sees_what_it_forbids():
    assert british("def paint(colour): ...") == {"colour"}
    assert british("class A:\n    grey: int\n    def f(self):\n        self.centre = neighbours = 1") == {
        "grey",
        "centre",
    }
    assert british("METRES = 1\ndef initialise(): ...") == {"METRES", "initialise"}
    assert british('def _f(colour): ...\nx = 1  # colour\ndef g():\n    """Colour."""') == set()
