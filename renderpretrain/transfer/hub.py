"""A model hub: a folder of weights, configuration and card, which Hugging Face serves, or any file system."""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from renderpretrain.data.words import data_words
from renderpretrain.runs import RunFolder
from renderpretrain.runs.metrics import Change, changes, read_rows
from renderpretrain.storage.files import write_atomically, write_text
from renderpretrain.storage.weights import check_finite
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.hosts.safetensors import to_bytes
from renderpretrain.transfer.layouts import Layout
from renderpretrain.transfer.model_card import model_card
from renderpretrain.transfer.pretrained import ENCODERS_FILE, load_encoder, read_pretrained

FILES = (ENCODERS_FILE, "config.json", "README.md")
"""What such a folder holds; whatever else lies in it stays as it is."""

LIBRARY = "renderpretrain"
"""What ``config.json`` names as its ``library_name``: by it a folder of ours is known."""

KINDS = re.compile(r"(?:[A-Za-z][\w-]+:)*")
"""What may stand before a path, such as ``folder:``; one letter is a drive."""

ELSEWHERE = re.compile(r"(?!file:)[\w+.-]+://|(timm:)?hf[-_]hub:|[a-z-]+(\.[A-Z]{2})?/\d{7}(v\d+)?$")
"""What has slashes and is no path: addresses, models of a hub, arXiv's old identifiers."""


def push_to_hub(
    source: Path | str | Pretrained,
    repo_id: str | None = None,
    *,
    folder: Path | str | None = None,
    license: str = "unknown",
    remarks: str = "",
    private: bool | None = None,
) -> str:
    """Publish encoders: weights as safetensors, configuration, and a card that says what they are.

    Paths of this machine do not travel: of data sets their format's name stays, of files theirs.

    Args:
        source: A run folder, a file of our encoders, or encoders in memory.
        repo_id: ``user/name`` on the Hugging Face Hub, made where it is not there; needs ``huggingface_hub``
            and a token (``hf auth login``).
        folder: Where the files are written; without a ``repo_id`` that is all.
        license: Of the weights, as the hub names licences, such as ``apache-2.0``. Data sets often decide.
        remarks: Markdown of your own for the card.
        private: Whether a new repository is private; ``None`` is the hub's default.

    Returns:
        The folder, or the address of the repository.

    Raises:
        ValueError: If neither is named, the folder holds the files of something else, weights are not finite,
            ``huggingface_hub`` is missing, or the hub refuses.
    """
    if repo_id is None and folder is None:
        raise ValueError("repo_id, folder: expected one of them, got neither")
    hub = None if repo_id is None else _imported_hub()
    pretrained, scores = _published(source), _scores_of(source)
    for name, encoder in pretrained.encoders.items():
        check_finite(encoder.tensors, name, "such weights are not published")
    with TemporaryDirectory() as passing:
        where = Path(passing if folder is None else folder)
        name = repo_id or (where.name if where.is_absolute() else where.as_posix())
        _write(where, pretrained, model_card(pretrained, scores, name=name, license=license, remarks=remarks))
        return str(where) if hub is None else _upload(hub, where, name, private)


def from_pretrained(
    name: Path | str, part: str | None = None, *, into: nn.Module | None = None, revision: str | None = None
) -> nn.Module:
    """An encoder that :func:`push_to_hub` has published.

    Args:
        name: A folder, or ``user/name`` on the Hugging Face Hub, which is fetched once.
        part: See :func:`load_encoder`.
        into: See :func:`load_encoder`.
        revision: A branch, tag or commit of the repository.

    Raises:
        ValueError: If it is no folder and cannot be fetched; see also :func:`load_encoder`.
    """
    folder = Path(name)
    if not folder.exists():
        if str(name).count("/") != 1 or str(name).startswith((".", "~", "/")):
            raise ValueError(f"name: expected a folder, or user/name on the Hugging Face Hub, got {name}")
        folder = _fetch(str(name), revision)
    return load_encoder(folder, part, into=into)


def _published(source: Path | str | Pretrained) -> Pretrained:
    """The encoders as others see them."""
    pretrained = source if isinstance(source, Pretrained) else read_pretrained(source)
    return replace(pretrained, about=_without_paths(pretrained.about))


def _without_paths(about: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of training, without where files lie on this machine."""
    bare: dict[str, Any] = _bare(about)
    if isinstance(about.get("data"), str):
        bare["data"] = "+".join(word.kind for word in data_words(about["data"]))
    return bare


def _bare(value: Any) -> Any:
    """A value whose paths, absolute or not, are names of files; keys, too."""
    if isinstance(value, Mapping):
        bare: dict[Any, Any] = {}
        for key, each in value.items():
            name, count = _bare(key), 1
            while name in bare:  # two folders of one name
                count += 1
                name = f"{_bare(key)} ({count})"
            bare[name] = _bare(each)
        return bare
    if isinstance(value, list | tuple):
        return [_bare(each) for each in value]
    return _file_name(value) if isinstance(value, str) else value


def _file_name(text: str) -> str:
    """The last name of a path, with what stands before the path; any other text as it is."""
    kinds = KINDS.match(text)
    before = kinds[0] if kinds else ""
    path = text.removeprefix(before)
    if ELSEWHERE.match(text) or not (path.startswith("~") or re.search(r"[\\/]", path)):
        return text
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return before + ("~" if name.startswith("~") else name)


def _scores_of(source: Path | str | Pretrained) -> list[Change]:
    """Held-out scores of a run; none of anything else."""
    if isinstance(source, Pretrained) or not Path(source).is_dir():
        return []
    return changes(read_rows(RunFolder(Path(source)).metrics))


def _write(folder: Path, pretrained: Pretrained, card: str) -> None:
    """Write the files; a folder of something else is left alone."""
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _is_ours(folder / "config.json"):
        got = f"{folder} with a {there[0]} and no config.json of {LIBRARY}"
        raise ValueError(f"folder: expected a new one, or one of push_to_hub, got {got}")
    folder.mkdir(parents=True, exist_ok=True)
    encoders = {name: encoder.spec for name, encoder in pretrained.encoders.items()}
    told = {**pretrained.about, "library_name": LIBRARY, "encoders": encoders}
    write_text(folder / "config.json", json.dumps(told, indent=2) + "\n")  # first: it says whose folder it is
    write_atomically(folder / ENCODERS_FILE, lambda file: file.write(to_bytes(pretrained, Layout().kernels)))
    write_text(folder / "README.md", card)


def _is_ours(config: Path) -> bool:
    """Whether a ``config.json`` is one that :func:`push_to_hub` wrote."""
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("library_name") == LIBRARY


def _upload(hub: Any, folder: Path, repo_id: str, private: bool | None) -> str:
    """Send the files; returns the address of the repository."""
    with _one_line(repo_id):
        api = hub.HfApi()
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        message = "Encoders of renderpretrain"
        api.upload_folder(
            repo_id=repo_id, folder_path=str(folder), allow_patterns=list(FILES), commit_message=message
        )
    return str(address)


def _fetch(repo_id: str, revision: str | None) -> Path:
    """The files of a repository, in the hub's own cache."""
    hub = _imported_hub()
    with _one_line(repo_id):
        return Path(hub.snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))


@contextmanager
def _one_line(repo_id: str) -> Iterator[None]:
    """What the hub raises becomes one line that names the repository."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{repo_id}: the hub could not be used ({reason})") from error


def _imported_hub() -> Any:
    """``huggingface_hub``, which only the network needs.

    Raises:
        ValueError: If it is not installed, or broken.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f'repo_id: the hub needs pip install "renderpretrain[hub]" ({reason})') from error
