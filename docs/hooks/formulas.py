"""Formulas as MathML, which browsers draw by themselves; written ``$w_i$`` or ``$$w_i$$``, as on GitHub."""

import re

from latex2mathml.converter import convert

CODE = re.compile(r"(^ *```.*?^ *```$|``.+?``|`[^`\n]+`)", re.M | re.S)
"""What is left alone: blocks and spans of code."""

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\w$\\])\$([^\s$](?:[^$\n]*[^\s$])?)\$(?!\w)", re.S)


def drawn(latex: str, *, block: bool = False) -> str:
    """A formula of LaTeX as HTML; what is around it scrolls, and keeps Markdown from ending a paragraph."""
    latex = " ".join(latex.split())
    if block:
        return f'<div class="formula">{convert(latex, display="block")}</div>'
    return f"<span>{convert(latex)}</span>"


def with_formulas(markdown: str) -> str:
    """The text with every formula outside of code drawn."""
    pieces = CODE.split(markdown)  # every second one is code

    def draw(found: re.Match[str]) -> str:
        return f"\n\n{drawn(found[1], block=True)}\n\n" if found[1] else drawn(found[2])

    return "".join(piece if i % 2 else FORMULA.sub(draw, piece) for i, piece in enumerate(pieces))
