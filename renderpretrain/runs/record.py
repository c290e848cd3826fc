"""All that a run folder says, read to be looked at: what is damaged is named, and the rest is shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from renderpretrain.runs.collapse import GRADIENT, is_measured
from renderpretrain.runs.folder import RunFolder
from renderpretrain.runs.lock import check_unlocked
from renderpretrain.runs.metrics import Row, read_good_rows
from renderpretrain.runs.saved import saved_tree
from renderpretrain.runs.settings import Tree
from renderpretrain.storage.files import write_text

State = Literal["running", "finished", "stopped"]
"""A stopped run has an end that its settings do not ask for, and can be resumed."""


LARGEST = 1e300
"""Numbers from there on, and whole ones of any length, are none to draw; nor is NaN."""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run, without its weights.

    Attributes:
        folder: Where its files are.
        tree: What ``config.yaml`` says.
        environment: The machine and the software.
        rows: Of ``metrics.jsonl``, by rising step.
        state: Whether it goes on.
        scores: Of ``eval.json``; empty where held-out views were not scored.
        probes: Of ``probe.json``, by task and mode.
        exports: Of ``exports.json``, the latest last.
        damages: A sentence that names each file or line that cannot be read.
    """

    folder: RunFolder
    tree: Tree = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    rows: Sequence[Row] = field(repr=False)
    state: State
    scores: Mapping[str, Any] = field(repr=False)
    probes: Mapping[str, Any] = field(repr=False)
    exports: Sequence[Any] = field(repr=False)
    damages: tuple[str, ...]

    @property
    def title(self) -> str:
        """The recipe and the preset, as pictures and tables call the run."""
        return " ".join(str(self.tree[name]) for name in ("recipe", "preset") if self.tree.get(name))

    @property
    def step(self) -> int:
        """How many updates its log knows of."""
        return int(max((row["step"] for row in self.rows), default=0))

    @property
    def steps(self) -> int | None:
        """How many updates its settings ask for; ``None`` where they do not say."""
        return steps_of(self.tree)

    @cached_property
    def measured(self) -> list[Row]:
        """The rows of held-out scores and of health, far fewer than those of steps."""
        return [row for row in self.rows if is_measured(row)]

    @cached_property
    def with_gradients(self) -> list[Row]:
        """The rows of steps that measured the gradient of each term."""
        return [row for row in self.rows if any(key.startswith(GRADIENT) for key in row)]

    @cached_property
    def trained_only(self) -> list[Row]:
        """The rows of steps that did nothing but train: to measure gradients takes longer than a step.

        Those that did so are among them where there are no others.
        """
        steps = [row for row in self.rows if row.get("samples_per_second", 0) > 0]
        with_gradients = {row["step"] for row in self.with_gradients}
        return [row for row in steps if row["step"] not in with_gradients] or steps

    @property
    def pictures(self) -> list[Path]:
        """PNG files that the run and its probes drew, by name."""
        return sorted([*self.folder.pictures.glob("*.png"), *self.folder.path.glob("probe-*.png")])


def read_record(run: Path | str) -> RunRecord:
    """Read a run folder, finished or not.

    Raises:
        ValueError: If it is no run folder, or its ``config.yaml`` is damaged.
    """
    folder = RunFolder(Path(run))
    tree = saved_tree(folder.path)
    rows, damages = read_good_rows(folder.metrics)
    rows = sorted((_finite(row) for row in rows), key=lambda row: row["step"])
    found: dict[Path, Any] = {}
    kinds = {folder.environment: dict, folder.scores: dict, folder.probes: dict, folder.exports: list}
    for path, kind in kinds.items():
        try:
            found[path] = _read_json(path, kind)
        except ValueError as error:
            damages.append(str(error))
            found[path] = kind()
    return RunRecord(
        folder,
        tree,
        found[folder.environment],
        rows,
        _state(folder, tree, rows),
        found[folder.scores],
        found[folder.probes],
        found[folder.exports],
        tuple(damages),
    )


def keep_export(run: Path, export: Mapping[str, Any]) -> None:
    """Remember in a run folder what was exported: once for each ``file``, the latest last.

    Args:
        run: The folder.
        export: What JSON can hold: ``file``, ``written``, ``step``, ``snippet``, and the ``report`` on keys.

    Raises:
        ValueError: If what is remembered already is damaged; it stays.
        OSError: If it cannot be written.
    """
    path = RunFolder(run).exports
    others = [each for each in _read_json(path, list) if not _is_of(each, export["file"])]
    write_text(path, json.dumps([*others, export], indent=1) + "\n")


def _is_of(export: Any, file: str) -> bool:
    """Whether what is remembered of an export says that it wrote a file."""
    return isinstance(export, dict) and export.get("file") == file


def steps_of(tree: Mapping[str, Any]) -> int | None:
    """How many updates saved settings ask for; ``None`` where they do not say."""
    optimization = tree.get("config", {}).get("optimization")
    steps = optimization.get("steps") if isinstance(optimization, dict) else None
    return steps if isinstance(steps, int) else None


def _state(folder: RunFolder, tree: Tree, rows: Sequence[Row]) -> State:
    """Somebody holds the lock of a run that goes on; one that has ended has left its final weights."""
    try:
        check_unlocked(folder.lock)
    except ValueError:
        return "running"
    last = max((row["step"] for row in rows), default=0)
    ended = (folder.checkpoints / "final.pt").is_file() and last >= (steps_of(tree) or 0)
    return "finished" if ended else "stopped"


def _finite(row: Row) -> Row:
    """A row without numbers that nothing can be drawn of."""
    return {name: value for name, value in row.items() if abs(value) < LARGEST}


def _read_json(path: Path, kind: type) -> Any:
    """What a file of JSON holds, or nothing where there is no file; raises a ``ValueError`` that names it."""
    if not path.is_file():
        return kind()
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path}: expected a JSON {kind.__name__}, got {type(value).__name__}")
    return value
