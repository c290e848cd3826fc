"""What a run leaves behind: its configuration, its environment, its metrics, checkpoints and pictures."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import renderpretrain
from renderpretrain.ops import native_status
from renderpretrain.storage.checkpoint import newest_checkpoint
from renderpretrain.storage.files import write_text


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
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
        """PNG files by step."""
        return self.path / "pictures"

    def check(self, *, resume: bool) -> None:
        """Refuse a folder that training would overwrite, or that has nothing to resume.

        Raises:
            ValueError: Saying which, and what to do.
        """
        if resume and newest_checkpoint(self.checkpoints) is None:
            raise ValueError(f"out: expected a run with a checkpoint to resume in {self.path}, found none")
        if not resume and self.path.is_dir() and any(self.path.iterdir()) and not self._never_started():
            raise ValueError(
                f"out: expected an empty or new folder, got {self.path}, which holds files; "
                "resume the run there with --resume, or choose another folder"
            )

    def _never_started(self) -> bool:
        """Whether it holds nothing but what a run leaves that ended before its first checkpoint."""
        ours = {self.config, self.metrics, self.checkpoints, self.pictures, self.path / "environment.json"}
        started = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        return (self.path / "environment.json").is_file() and set(self.path.iterdir()) <= ours and not started

    def prepare(self, *, resume: bool) -> None:
        """Create the folder and write what is known before the first step.

        Without ``resume``, the log of a run that ended before its first checkpoint is removed.

        Raises:
            OSError: If the folder cannot be written; nothing has been trained then.
        """
        try:
            for folder in (self.path, self.checkpoints, self.pictures):
                folder.mkdir(parents=True, exist_ok=True)
            if not resume:
                self.metrics.unlink(missing_ok=True)
            write_text(self.path / "environment.json", json.dumps(environment(), indent=2) + "\n")
        except OSError as error:
            raise OSError(f"out: cannot write to {self.path} ({error.strerror or error})") from error

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration, once it is known to fit what is resumed."""
        write_text(self.config, yaml.safe_dump(dict(config), sort_keys=False))


def environment() -> dict[str, Any]:
    """The machine and the software that a run's numbers come from."""
    return {
        **versions(),
        "commit": _commit(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "native": {name: status._asdict() for name, status in native_status().items()},
        "command": sys.argv,
    }


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
