"""Pages of the site that are made from other files: a hook of mkdocs, which ``mkdocs.yml`` names.

The README is the first page, ``benchmarks/README.md`` one of its own, every example and every package has
one. Links are written as they work in the repository, ``../examples/minimal.py``; here they are turned to
these pages.
"""

import posixpath
import re
import sys
from importlib import import_module
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "docs" / "hooks"))
from docstrings import PACKAGES, members, readable  # noqa: E402
from filled import filled  # noqa: E402
from formulas import with_formulas  # noqa: E402

SHOWN = {"README.md": "index.md", "benchmarks/README.md": "benchmarks.md"}
"""Files of the repository outside ``docs``, and their pages."""

LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")


def page_of(path: str) -> str:
    """The page, relative to ``docs``, that shows a file of the repository; its own path if none does."""
    if path.startswith("examples/") and path.endswith(".py"):
        return path.removesuffix("py") + "md"
    return SHOWN.get(path, posixpath.relpath(path, "docs"))


def turned(markdown: str, source: str, page: str) -> str:
    """The text with relative links turned from files of the repository to pages.

    Args:
        markdown: Text of the file.
        source: Where it lies, relative to the repository.
        page: What it is shown as, relative to ``docs``.
    """

    def turn(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        return link[1] + posixpath.relpath(page_of(target), posixpath.dirname(page) or ".")

    pieces = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)  # every second one is code
    return "".join(piece if i % 2 else LINK.sub(turn, piece) for i, piece in enumerate(pieces))


def made() -> dict[str, str]:
    """Pages that are no file below ``docs``, and their text."""
    pages = {page: turned((ROOT / path).read_text(), path, page) for path, page in SHOWN.items()}
    for path in sorted((ROOT / "examples").glob("*.py")):
        pages[f"examples/{path.stem}.md"] = f"# {path.name}\n\n```python\n{path.read_text()}```\n"
    return pages | {f"api/{name}.md": api_page(name) for name in PACKAGES}


def api_page(package: str) -> str:
    """What a package says of itself, and everything that it offers but references of operators."""
    module = f"renderpretrain.{package}"
    said = readable(import_module(module).__doc__, module)
    found = [path for name, path in members(package).items() if not name.endswith("_reference")]
    shown = [path for path in found if shown_by(path, package) == package]
    listed = "\n".join(f"::: {path}\n" for path in shown)
    return f"# {module}\n\n{said}\n\n{listed}"


def shown_by(path: str, package: str) -> str:
    """The package whose page shows what that one offers: where it is defined, if that offers it, too."""
    home = path.split(".")[1]
    return home if home in PACKAGES and path in members(home).values() else package


def with_drawings(markdown: str) -> str:
    """The text with our own drawings in it, so that their words take the color of the page."""

    def draw(found: re.Match[str]) -> str:
        drawing = (ROOT / "docs" / "figures" / found[2]).read_text()
        drawing = re.sub(r"<style>.*?</style>\n?", "", drawing).replace(' color="#24292f"', "")
        drawing = drawing.replace("<svg ", f'<svg aria-label="{found[1]}" ', 1)
        return f'<div class="drawing">\n{drawing}</div>'

    return re.sub(r"!\[(.+?)\]\((?:\.\./)?figures/(\w+\.svg)\)", draw, markdown)


def on_config(config):
    """Put packages and examples into the navigation, in the place of ``api/`` and ``examples/``."""
    examples = sorted((ROOT / "examples").glob("*.py"))
    folders = {
        "api/": [f"api/{name}.md" for name in PACKAGES],
        "examples/": [f"examples/{path.stem}.md" for path in examples],
    }

    def listed(entry):
        if isinstance(entry, list):
            return [listed(part) for part in entry]
        if isinstance(entry, dict):
            return {title: listed(target) for title, target in entry.items()}
        return folders.get(entry, entry)

    config.nav = listed(config.nav)
    return config


def on_files(files, config):
    """Add the pages that are made."""
    for page, text in made().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Turn links, fill in what the page asks for, draw formulas and figures; what is made is ready."""
    path = page.file.src_uri
    if page.file.generated_by:
        return markdown
    return with_drawings(with_formulas(filled(turned(markdown, f"docs/{path}", path))))
