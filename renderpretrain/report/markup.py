"""HTML from plain functions: every text is escaped where it becomes markup, so no setting can become any."""

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from renderpretrain.terminal import printable


class Html(str):
    """Text that is markup already; any other text is escaped by what takes it in."""

    __slots__ = ()


def text(value: object) -> Html:
    """A value as text of a page; control characters are shown as Python writes them."""
    return value if isinstance(value, Html) else Html(html.escape(printable(str(value))))


def joined(parts: Iterable[object]) -> Html:
    """One after the other, what is no markup escaped."""
    return Html("".join(map(text, parts)))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """An element of a page.

    Args:
        tag: Its name.
        children: What is inside, in order.
        attributes: By name, ``class_`` for ``class`` and ``data_x`` for ``data-x``. ``True`` has no value;
            what is ``None`` or ``False`` is left out.
    """
    told = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        told.append(f" {key}" if value is True else f' {key}="{text(value)}"')
    opened = f"<{tag}{''.join(told)}>"
    return Html(opened if tag in ("img", "input", "meta", "br") else f"{opened}{joined(children)}</{tag}>")


def embedded(value: Any) -> Html:
    """Data for a script of the page: JSON in which nothing can end the element that holds it."""
    told = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Html(f'<script type="application/json">{told}</script>')


def table(header: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Html:
    """A table whose first column names the rows; it scrolls by itself where it is wider than the page."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    titled = [element("caption", caption)] if caption else []
    whole = element("table", *titled, element("thead", head), element("tbody", *body))
    return element("div", whole, class_="wide", tabindex="0", role="region", aria_label=caption or "table")


def number(value: object) -> str:
    """Four digits of a number; anything else as it is, NaN too, nothing as a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:.4g}"
