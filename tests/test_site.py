"""The documentation, where ``make docs`` has built it: no page asks a host, links lead somewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

pytestmark = pytest.mark.untyped
SITE = Path(__file__).resolve().parent.parent / "site"
NEVER_ASKED = {
    "https://api.github.com/repos/${e}/${t}",  # where mkdocs.yml names a repository
    "https://api.github.com/users/${e}",
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js",  # where a page has a mermaid diagram
    "https://unpkg.com/resize-observer-polyfill",  # in browsers of before 2020
}
"""What the theme's script could ask, and when."""

FETCHED = {"src", "srcset", "poster", "data", "action", "background"}
"""Attributes whose address a browser fetches by itself, of any element; and ``href`` of ``link``."""


class Asked(HTMLParser):
    """Addresses that a page fetches, those it links to, and the places in it that can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.linked, self.places, self.styles = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in FETCHED or (tag in ("link", "use", "image") and name.endswith("href")):
                self.fetched.append(value or "")
            elif tag == "a" and name == "href":
                self.linked.append(value or "")
            elif name in ("id", "name"):
                self.places.add(value)
            elif name == "style":
                self.styles.append(value or "")


@pytest.fixture(scope="module")
def pages():
    if not (SITE / "index.html").is_file():
        pytest.skip("site/ is not built: make docs")
    return {path: Asked(path.read_text()) for path in SITE.rglob("*.html")}


def elsewhere(address):
    return re.match(r"(?:\w+:)?//", address) is not None


def test_no_page_asks_another_host(pages):
    assert len(pages) > 40
    asked = [(path.name, address) for path, page in pages.items() for address in page.fetched]
    assert [(name, address) for name, address in asked if elsewhere(address)] == []


def test_styles_and_scripts_ask_no_other_host(pages):
    texts = {path: path.read_text() for path in SITE.rglob("*.css")}
    texts |= {path: "\n".join(page.styles) for path, page in pages.items()}
    fetches = re.compile(r"""(?:url\(|@import )\s*["']?((?:\w+:)?//[^"')]+)""")
    assert {str(path): found for path, text in texts.items() if (found := fetches.findall(text))} == {}
    scripts = "\n".join(path.read_text() for path in SITE.rglob("*.js") if "search_index" not in path.name)
    inside = re.compile(r"<script(?![^>]*src)[^>]*>(.*?)</script>", re.S)
    scripts += "\n".join(text for path in pages for text in inside.findall(path.read_text()))
    hosts = set(re.findall(r"""["'`]((?:https?:)?//[\w.-]+\.\w+[^"'`]*)""", scripts))
    assert hosts == NEVER_ASKED
    assert not any("mermaid" in path.read_text() for path in pages)


def test_links_between_pages_lead_somewhere(pages):
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.linked:
            address, _, place = unquote(link).partition("#")
            if elsewhere(link) or ":" in address:
                continue
            target = (path.parent / address).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file() and (not place or target not in pages or place in pages[target].places)
            wrong += [] if there else [(str(path.relative_to(SITE)), link)]
    assert not wrong


def test_docstrings_are_shown_without_their_marks(pages):
    api = [path.read_text() for path in pages if path.parent.name == "api"]
    assert len(api) > 15
    marks = re.compile(r":(?:func|class|meth|attr|mod|data|math):|\.\. math::")
    assert [found for text in api for found in marks.findall(text)] == []
    assert sum(text.count("<math") for text in api) > 30
