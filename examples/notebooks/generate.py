# The notebooks, made of the Python files beside them: `python examples/notebooks/generate.py`.
# Cells begin with `# %%`, cells of text with `# %% [markdown]`.
import json
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("own_encoder", "own_data", "what_did_it_learn")


def lines_of(text):
    return text.splitlines(keepends=True)


def cells(source):
    """Pairs of a kind, `code` or `markdown`, and the text of a cell."""
    for part in source.split("# %%")[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().split("\n"))
            yield "markdown", text
        else:
            yield "code", body.strip()


def cell(number, kind, text):
    made = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines_of(text)}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(source):
    """The notebook as JSON, nothing run in it."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {
        "cells": [cell(number, kind, text) for number, (kind, text) in enumerate(cells(source))],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    for name in NAMES:
        (HERE / f"{name}.ipynb").write_text(notebook((HERE / f"{name}.py").read_text()))
