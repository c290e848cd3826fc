"""What README, ``docs`` and ``benchmarks/README.md`` say can be done: code runs, commands are understood.

A block of Python runs, the blocks of a page one after another as in one session. In front of one a page may
say ``<!-- tried after: CODE -->``, what the reader already has; ``<!-- tried as: A => B; C => D -->``,
smaller numbers in the test; or ``<!-- compiled: WHY -->``, where running takes too much: then every name that
it imports is looked up. Three dots in a command stand for words that it lacks.
"""

import ast
import importlib
import re
import runpy
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer

from renderpretrain import ops
from renderpretrain.cli.app import app
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.settings import dotted_settings

pytestmark = pytest.mark.untyped
ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}

NOT_UNDERSTOOD = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Typer brings its own click, or takes the one that is installed."""

BLOCK = re.compile(r"((?:^<!--(?:(?!-->).)*-->\n+)*)^( *)```(\w*)[^\n]*\n(.*?)^\2```$", re.M | re.S)
SHELLS = ("", "bash", "sh", "console", "text")


def blocks(text):
    """Of each fenced block what is said before it, its language, and its lines."""
    return [(said, language, re.sub(f"^{pad}", "", code, flags=re.M)) for said, pad, language, code in
            BLOCK.findall(text)]  # fmt: skip


def said_before(said, what):
    """What comments in front of a block say behind a word, or ``None``."""
    found = re.search(rf"<!-- {what}:(.*?)-->", said, re.S)
    return found and found[1].strip()


def replaced(code, pairs):
    """The code with each ``A => B`` done; an A that is not there is an error of the page."""
    for pair in filter(None, (pairs or "").split("; ")):
        old, new = pair.split(" => ")
        assert old in code, f"{old!r} is not in the block any more"
        code = code.replace(old, new)
    return code


def look_up(code):
    """Import what a block imports, and look up what it asks of these modules by dotted names."""
    known = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "renderpretrain":
            module = importlib.import_module(node.module)
            known |= {name.asname or name.name: getattr(module, name.name) for name in node.names}
        elif isinstance(node, ast.Import):
            ours = [name for name in node.names if name.name.split(".")[0] == "renderpretrain"]
            known |= {name.asname or name.name: importlib.import_module(name.name) for name in ours}
    for dotted in re.findall(r"(?<![.\w])[a-zA-Z_]\w*(?:\.[a-zA-Z_]\w*)+", code):
        first, *rest = dotted.split(".")
        value = known.get(first)
        while rest and isinstance(value, ModuleType):
            value = getattr(value, rest.pop(0))


PYTHON = {
    name: [(said, code) for said, language, code in blocks(text) if language == "python"]
    for name, text in TEXTS.items()
}


@pytest.mark.parametrize("page", [name for name, found in PYTHON.items() if found])
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # matplotlib takes as long as all else that a short run does; tests/training/test_monitor.py has it drawn
    monkeypatch.setattr("renderpretrain.training.run.save_health_curves", lambda *_, **__: None)
    session = {}
    for said, code in PYTHON[page]:
        if said_before(said, "compiled") is not None:
            look_up(code)
            continue
        before, small = said_before(said, "tried after") or "", said_before(said, "tried as")
        exec(compile(before + "\n" + replaced(code, small), page, "exec"), session)


def commands(text):
    """Calls of ``renderpretrain`` in blocks and in the prose, as lists of words."""
    lines = [code.replace("\\\n", " ") for _, language, code in blocks(text) if language in SHELLS]
    lines = [line for code in lines for line in code.splitlines()]
    prose = BLOCK.sub("", text)
    lines += [f"{span} ..." for span in re.findall(r"`(renderpretrain [^`]+)`", prose.replace("\n", " "))]
    for line in lines:
        called = re.match(r"(?:\$ |!)?(?:\w+=\S+ )*(?:(?:srun )?torchrun .*?-m )?renderpretrain (.*)", line)
        if called and re.match(r"[a-z-]", called[1]):
            yield shlex.split(called[1], comments=True)


def parse(words):
    """Have the command line read the words, as far as doing something.

    Raises:
        BadParameter: If it does not understand them.
    """
    command, context, said = typer.main.get_command(app), None, ["renderpretrain"]
    while True:
        context = command.make_context(said[-1], list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return context
        rest = [*context._protected_args, *context.args]
        name, command, words = command.resolve_command(context, rest)
        said.append(name)


def check_words(words):
    """The command is understood; recipes, presets and settings that it names are there."""
    try:
        parameters = parse([word for word in words if word != "..."]).params
    except typer.Exit:
        return  # --help and --version
    except NOT_UNDERSTOOD as error:
        if "..." in words and type(error).__name__ == "MissingParameter":
            return
        raise
    recipe = parameters.get("recipe") or parameters.get("name")
    if words[0] in ("pretrain", "recipes") and recipe and recipe.islower() and ":" not in recipe:
        presets = RECIPES[recipe].presets
        config = presets[parameters.get("preset") or "tiny"]
        known = set(dict(dotted_settings(config)))
        told = [word.partition("=")[0] for word in parameters.get("set_") or parameters.get("set") or ()]
        own = {name for name in told if name.startswith("encoder.args.")}
        sections = {name for name in told if any(k.startswith(name + ".") for k in known)}
        open_ended = {name for name in told if name.rpartition(".")[0] in known}
        assert set(told) - own - sections - open_ended <= known


COMMANDS = {name: list(commands(text)) for name, text in TEXTS.items()}


@pytest.mark.parametrize("page", [name for name, found in COMMANDS.items() if found])
def test_commands_are_understood(page):
    wrong = []
    for words in COMMANDS[page]:
        try:
            check_words(words)
        except (NOT_UNDERSTOOD, KeyError, AssertionError) as error:
            wrong.append((shlex.join(words), getattr(error, "message", repr(error))))
    assert not wrong


def test_there_are_commands_and_blocks():
    assert sum(map(len, COMMANDS.values())) > 40 and sum(map(len, PYTHON.values())) > 5


@pytest.mark.parametrize(
    "line",
    [
        "renderpretrain pretrain unipad-lidar --stesp 3",
        "renderpretrain pretrain unipad-lidra",
        "renderpretrain pretrain unipad-lidar --set optimization.rl=1",
        "torchrun --nproc-per-node 2 -m renderpretrain pretrain unipad-lidar --preset papre",
        "renderpretrain trian x",
        "renderpretrain data inspect folder:PATH   what is in it",
    ],
)
def test_what_is_wrong_is_seen(line):
    [words] = commands(f"```\n{line}\n```\n")
    with pytest.raises((NOT_UNDERSTOOD, KeyError, AssertionError)):
        check_words(words)


def anchors(text):
    """What can be linked to within a page: its headings, as GitHub and the site spell them."""
    headings = re.findall(r"^#+ (.+?)(?: \{.*\})?$", BLOCK.sub("", text), re.M)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\[(.+?)\]\(.*?\)", r"\1", h)).strip().lower() for h in headings]
    return {re.sub(r"\s", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", list(TEXTS))
def test_links_lead_somewhere(page):
    wrong = []
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", BLOCK.sub("", TEXTS[page])):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            wrong.append(link)
    assert not wrong


NAMED = re.compile(r"`((?:examples|benchmarks|docs|tests|csrc|recipes|renderpretrain)/[\w/]+\.\w+)`")


@pytest.mark.parametrize("page", list(TEXTS))
def test_files_and_make_targets_that_are_named_are_there(page):
    places = (ROOT, ROOT / "renderpretrain")
    names = NAMED.findall(TEXTS[page])
    missing = [name for name in names if not any((place / name).exists() for place in places)]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    shells = "\n".join(code for _, language, code in blocks(TEXTS[page]) if language in SHELLS)
    asked = re.findall(r"`make ([\w-]+)`", TEXTS[page]) + re.findall(r"^make ([\w-]+)", shells, re.M)
    assert not missing and set(asked) <= targets


def test_the_readme_fits_on_a_screen_and_a_half():
    text = re.sub("<!--.*?-->", "", TEXTS["README.md"], flags=re.S)
    assert len(text.splitlines()) <= 90 and len(text.split()) <= 700
    ours = next(code for _, language, code in blocks(text) if language == "python")
    assert len([line for line in ours.splitlines() if line]) <= 10


def test_networks_that_are_centred_on_voxels_say_so():
    """What is left out is the middle between voxels, which a convolution with padding 1 is not."""
    found = [code for text in TEXTS.values() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    padded = [code for code in found if "stride=2, padding=1" in code and "VolumeEncoder(" in code]
    assert len(padded) >= 2 and all("first=0" in code for code in padded)


def test_every_operator_has_a_place():
    told = set(re.findall(r"\w+", TEXTS["docs/operators.md"]))
    names = [name for name in ops.__all__ if name.islower() and not name.endswith("_reference")]
    assert len(names) > 30 and set(names) <= told


def test_figures_are_as_the_script_draws_them():
    folder = ROOT / "docs" / "figures"
    drawn = {name: draw().svg() for name, draw in runpy.run_path(str(folder / "draw.py"))["FIGURES"].items()}
    drawn |= {name: draw() for name, draw in runpy.run_path(str(folder / "concepts.py"))["FIGURES"].items()}
    assert drawn == {path.stem: path.read_text() for path in folder.glob("*.svg")}
