"""The notebooks as pages of the site: a hook of mkdocs, which ``mkdocs.yml`` names.

They are made of the files that the notebooks are made of, ``examples/notebooks/*.py``. Links to a notebook,
as ``../examples/notebooks/own_data.ipynb``, lead to its page.
"""

import re
import runpy
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "notebooks"
LINK = re.compile(r"\]\(\.\./examples/notebooks/(\w+)\.ipynb\)")


def page(name: str, cells) -> str:
    """A notebook as Markdown.

    Args:
        name: Of the notebook.
        cells: Splits its source into kinds and texts.
    """
    parts = [
        text if kind == "markdown" else f"```python\n{text}\n```"
        for kind, text in cells((FOLDER / f"{name}.py").read_text())
    ]
    where = f"The notebook is `examples/notebooks/{name}.ipynb`."
    return "\n\n".join([parts[0], where, *parts[1:]]) + "\n"


def on_files(files, config):
    """Add a page for each notebook."""
    from mkdocs.structure.files import File

    made = runpy.run_path(str(FOLDER / "generate.py"))
    for name in made["NAMES"]:
        files.append(File.generated(config, f"notebooks/{name}.md", content=page(name, made["cells"])))
    return files


def on_page_markdown(markdown, **_):
    """Links to notebooks lead to their pages."""
    return LINK.sub(r"](notebooks/\1.md)", markdown)
