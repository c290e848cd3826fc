"""What a page asks for by a comment, such as ``<!-- settings: uniscene -->``, made from the code.

``differs: module:Class`` is the list of its docstring, ``settings: RECIPE`` a table of every setting with its
source, ``results: RECIPE RECIPE`` what ``docs/results/*.json`` has of them, ``costs: OPERATOR`` their
rows of ``benchmarks/README.md``; ``costs: all`` the first one of every operator.
"""

import inspect
import json
import re
import sys
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.settings import dotted_settings, sources_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
from results_page import read_results, table  # noqa: E402

ASKED = re.compile(r"<!-- (differs|settings|results|costs): (.+?) -->")


def differs(name: str) -> str:
    """The list of a class's docstring that follows ``Differs from``, as Markdown."""
    module, _, member = name.partition(":")
    text = inspect.getdoc(getattr(import_module(f"renderpretrain.recipes.{module}"), member)) or ""
    listed = re.search(r"^Differs from.*?:\n\n(.*?)\n\n(?!\* )", text, re.M | re.S)
    if listed is None:
        raise ValueError(f"{name}: its docstring does not say where it differs")
    plain = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", listed[1]).replace("``", "`")
    return re.sub(r"^\* (.*?\.) Released: ", r"* \1 *Released:* ", re.sub(r"\n +", " ", plain), flags=re.M)


def described(config: BaseModel, name: str) -> str:
    """What a field says of itself, by its dotted name."""
    *sections, last = name.split(".")
    for section in sections:
        config = getattr(config, section, None)
        if not isinstance(config, BaseModel):
            return ""
    said = type(config).model_fields.get(last)
    return (said.description or "") if said else ""


def written(value: object) -> str:
    """A setting as ``--set`` takes it."""
    return "`" + re.sub(r'"', "", json.dumps(value)) + "`"


def settings(recipe: str) -> str:
    """Every setting that the published preset uses: its number, where that is from, and that of ``tiny``."""
    entry = RECIPES[recipe]
    preset, tiny = entry.presets[entry.reference], dict(dotted_settings(entry.presets["tiny"]))
    sources = sources_of(entry.sources, entry.presets, entry.reference)
    rows = [
        [_explained(name, described(preset, name)), written(value), written(tiny.get(name)), source]
        for name, value in dotted_settings(preset)
        if not (source := sources.get(name, "")).startswith("unused")
    ]
    columns = ["setting", f"`{entry.reference}`", "`tiny`", f"`{entry.reference}` is from"]
    shown = table({"columns": columns, "rows": rows})
    return _folded(f"Every setting of {recipe}", shown.splitlines())


def _explained(name: str, said: str) -> str:
    """A setting's name, and below it what it is."""
    return f"`{name}`" + (f"<br><small>{said}</small>" if said else "")


def results(recipes: str) -> str:
    """What ``docs/results`` has of some recipes: their rows, and those of no recipe beside them."""
    own, any_recipe = _names(recipes.split()), _names(list(RECIPES))
    found = []
    for result in read_results():
        for each in result["tables"]:
            firsts = [each["columns"][0], *(str(row[0]) for row in each["rows"])]
            if not any(own.search(first) for first in firsts):
                continue
            rows = [r for r in each["rows"] if own.search(str(r[0])) or not any_recipe.search(str(r[0]))]
            found += [f"**{result['title']}** ({result['date']})", table(each, rows)]
    return "\n\n".join(found) if found else "Nothing was measured yet."


def _names(recipes: list[str]) -> re.Pattern[str]:
    """Finds the names of recipes, not as parts of longer ones."""
    return re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, recipes)) + r")(?![\w-])")


def costs(operators: str) -> str:
    """What operators cost, from the table of measurements."""
    text = (ROOT / "benchmarks" / "README.md").read_text().partition("\n## Operators\n")[2]
    head, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    names = [row.split("|")[1].strip() for row in rows]
    if operators == "all":
        first = dict(zip(reversed(names), reversed(rows), strict=True))
        listed = [head, rule, *(first[name] for name in dict.fromkeys(names))]
        few = [[line.split("|")[column] for column in (1, 3, 4, 5)] for line in listed]
        return _folded("The first row of each", ["|" + "|".join(line) + "|" for line in few])
    wanted = operators.split()
    if missing := set(wanted) - set(names):
        raise ValueError(f"costs: benchmarks/README.md has no row of {', '.join(sorted(missing))}")
    shown = [head, rule, *(row for name, row in zip(names, rows, strict=True) if name in wanted)]
    return _folded("What it costs", shown)


def _folded(title: str, lines: list[str]) -> str:
    """Lines that are shown when their title is clicked."""
    return f'??? note "{title}"\n\n' + "\n".join(f"    {line}" for line in lines)


def filled(markdown: str) -> str:
    """The text with what it asks for in the places of its comments."""
    makers = {"differs": differs, "settings": settings, "results": results, "costs": costs}
    return ASKED.sub(lambda asked: makers[asked[1]](asked[2]), markdown)
