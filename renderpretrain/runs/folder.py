"""What a run leaves behind: its configuration, its environment, its metrics, checkpoints and pictures."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import renderpretrain
from renderpretrain.ops import native_status
from renderpretrain.runs.checkpoint import newest_checkpoint
from renderpretrain.runs.description import RunDescription
from renderpretrain.runs.lock import check_unlocked, run_lock
from renderpretrain.storage.files import PARTIAL, remove, write_text


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The file with the resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints by step, ``latest`` and ``final.pt``."""
        return self.path / "checkpoints"

    @property
    def pictures(self) -> Path:
        """The folder of PNG files by step."""
        return self.path / "pictures"

    @property
    def logs(self) -> Path:
        """The folder of loggers: a table, TensorBoard's events, runs of Weights & Biases."""
        return self.path / "logs"

    @property
    def environment(self) -> Path:
        """The machine and the software, written first."""
        return self.path / "environment.json"

    @property
    def scores(self) -> Path:
        """What ``renderpretrain eval`` found of held-out views."""
        return self.path / "eval.json"

    @property
    def probes(self) -> Path:
        """What probes found of the encoders."""
        return self.path / "probe.json"

    @property
    def exports(self) -> Path:
        """What of the encoders arrived where they were exported to."""
        return self.path / "exports.json"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """Who trains in the folder, while somebody does."""
        return self.path / "lock"

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return newest_checkpoint(self.checkpoints) is not None

    def check(self, *, resume: bool) -> None:
        """Refuse a folder that is in use, that training would overwrite, or that has nothing to resume.

        Raises:
            ValueError: Saying which, and what to do.
        """
        check_unlocked(self.lock)
        self._check_contents(resume)

    def _check_contents(self, resume: bool) -> None:
        """The same of what lies in it."""
        found = newest_checkpoint(self.checkpoints)
        if resume and found is None:
            raise ValueError(f"out: expected a run with a checkpoint to resume in {self.path}, found none")
        if not resume and self.path.is_dir() and not self._never_started():
            advice = "" if found is None else "resume the run there with --resume, or "
            raise ValueError(
                f"out: expected an empty or new folder, got {self.path}, which holds files; "
                f"{advice}choose another folder"
            )

    def _never_started(self) -> bool:
        """Whether it holds nothing but what a run leaves that ended before its first checkpoint."""
        leftovers, found = set(self._leftovers()), set(self.path.iterdir())
        first = {self.lock, _partial(self.environment), self.checkpoints, self.pictures}
        later = {self.environment, self.config, self.metrics, self.logs, self.report}
        if self.checkpoints.is_dir() and set(self.checkpoints.iterdir()) - leftovers:
            return False
        return found <= (first | later | leftovers if self.environment in found else first)

    def _leftovers(self) -> Iterator[Path]:
        """Files and folders of ours that a killed run was writing."""
        written = (self.environment, self.config, self.metrics, self.report, self.checkpoints / "latest")
        for whole in written:
            yield _partial(whole)
        yield _partial(self.path / "logs.old")
        for folder, pattern in ((self.checkpoints, "*.partial"), (self.pictures, "*.partial")):
            yield from folder.glob(pattern)

    @contextmanager
    def claimed(self, *, resume: bool) -> Iterator[None]:
        """Keep other processes out of the folder, which is made where it is not there; else touch nothing.

        Raises:
            ValueError: As :meth:`check` does.
            OSError: If the folder cannot be written.
        """
        self.check(resume=resume)
        with ExitStack() as stack:
            with self._named():
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(run_lock(self.lock))
            self._check_contents(resume)  # another run may have come and gone since
            yield

    def prepare(self, description: RunDescription, *, resume: bool, doubts: Sequence[str] = ()) -> None:
        """Write what is known before the first step; what a killed run was writing is removed.

        Without ``resume``, so are the logs of a run that ended before its first checkpoint.

        Args:
            description: What the run is, known to fit what is resumed.
            resume: Whether a run goes on.
            doubts: What is in doubt about its data; a run that goes on keeps what was said of it before.

        Raises:
            OSError: If the folder cannot be written; nothing has been trained then.
        """
        with self._named():
            for folder in (self.checkpoints, self.pictures):
                folder.mkdir(exist_ok=True)
            for path in self._leftovers():
                remove(path)
            if not resume:
                self.metrics.unlink(missing_ok=True)
                remove(self.logs)
            told = {"doubts": [*(self._doubts() if resume else ()), *doubts]}
            about = environment() | {name: lines for name, lines in told.items() if lines}
            write_text(self.environment, json.dumps(about, indent=2) + "\n")
            write_text(self.config, yaml.safe_dump(description.as_tree(), sort_keys=False))

    def _doubts(self) -> list[str]:
        """What was in doubt about the data when the run began."""
        try:
            return list(json.loads(self.environment.read_text()).get("doubts", []))
        except (OSError, ValueError, AttributeError, TypeError):
            return []

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of what cannot be written that it is the run's folder."""
        try:
            yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise OSError(f"out: cannot write to {self.path} ({error.strerror or error}{where})") from error


def _partial(path: Path) -> Path:
    """What a file is called while it is written."""
    return path.with_name(path.name + PARTIAL)


def environment() -> dict[str, Any]:
    """The machine and the software that a run's numbers come from."""
    return {
        **versions(),
        "commit": _commit(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **process_counts(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "native": {name: status._asdict() for name, status in native_status().items()},
        "command": sys.argv,
    }


def process_counts() -> dict[str, int]:
    """How many processes a run has, and how many of them this machine has, as torchrun says."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        "processes": processes,
        "processes_per_node": int(os.environ.get("LOCAL_WORLD_SIZE", processes)),
    }


def is_first_process() -> bool:
    """Whether this is the process that speaks, also before processes have found each other."""
    return os.environ.get("RANK", "0") == "0"


def launched_by(machine: Mapping[str, Any]) -> list[str]:
    """The words before ``-m renderpretrain`` that start as many processes again; none of one process.

    Args:
        machine: ``processes`` and ``processes_per_node`` of a run; without the latter it had one node.
    """
    processes = machine.get("processes", 1)
    beside = machine.get("processes_per_node", processes)
    if processes == 1:
        return []
    nodes = ["--nnodes", str(processes // beside)] if processes > beside else []
    return ["torchrun", *nodes, "--nproc-per-node", str(beside)]


def versions() -> dict[str, str]:
    """The software a checkpoint was written by."""
    return {
        "renderpretrain": renderpretrain.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _commit() -> str | None:
    """The commit of the source tree the package runs from, if it is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
