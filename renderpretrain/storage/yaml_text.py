"""YAML that says no more than it seems to: what its anchors unfold to is bounded."""

from pathlib import Path
from typing import Any

import yaml

MOST_VALUES = 100_000
"""Values that a text may unfold to; ten lines of anchors can say 10^10."""

MOST_BYTES = 10_000_000
"""How many bytes a file may have."""


def parse_yaml(text: str, where: str) -> Any:
    """Plain values.

    Args:
        text: YAML.
        where: Whose it is, for messages.

    Raises:
        ValueError: If it is no YAML, naming the line, or unfolds to more than a configuration has.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MOST_VALUES:
            raise ValueError(f"its anchors unfold to more than {MOST_VALUES} values")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ValueError(f"{where}{line}: not valid YAML ({problem})") from error
    except RecursionError as error:
        raise ValueError(f"{where}: not valid YAML (too many brackets)") from error
    except (
        ValueError,
        OverflowError,
        TypeError,
        LookupError,
        AttributeError,
    ) as error:  # of a tag's own reader
        raise ValueError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file has none in it.

    Raises:
        ValueError: If it is no regular file of a configuration's size, no text, not YAML or not a mapping.
        OSError: If it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a file of YAML, found none")
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path}: expected a configuration, got more than {MOST_BYTES // 10**6} MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got byte {error.start} of another kind") from error
    tree = parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected a YAML mapping, got {type(tree).__name__}")
    return tree


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node unfolds to, every anchor counted as often as it is used."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an anchor that holds itself")
        return known[id(node)]
    known[id(node)] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else ()
    pairs = (side for part in parts for side in (part if isinstance(part, tuple) else (part,)))
    known[id(node)] = 1 + sum(_values(part, known) for part in pairs)
    return known[id(node)]
