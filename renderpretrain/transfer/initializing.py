"""A recipe that begins with the encoders of a file or of another run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from renderpretrain.storage.weights import check_weights
from renderpretrain.transfer.architecture import describe
from renderpretrain.transfer.columns import fit_columns
from renderpretrain.transfer.encoder import Encoder
from renderpretrain.transfer.pretrained import read_pretrained


def initialize_encoders(
    encoders: Mapping[str, nn.Module],
    path: Path | str,
    *,
    columns: Sequence[str] = (),
    load: bool = True,
) -> list[str]:
    """Load the encoders of a run folder or file into a recipe's, in place, by name.

    Where no name is the recipe's, an encoder takes the place of the only one of its kind: a sparse U-Net that
    was imported without a recipe is any recipe's.

    An encoder that reads fewer columns of a point gets the others with weights 0.

    Args:
        encoders: The recipe's ``encoders()``.
        path: See :func:`~renderpretrain.transfer.read_pretrained`.
        columns: What the recipe reads of a point; without, the file's columns must be those.
        load: Or only look whether it fits; then the encoders may be without memory.

    Returns:
        One line on each encoder.

    Raises:
        ValueError: If no encoder has a place in the recipe, an encoder reads a column that the recipe does
            not, or on the first shape that differs; nothing is changed.
    """
    found: Mapping[str, Encoder] = read_pretrained(path).encoders
    if not set(found) & set(encoders):
        found = _by_kind(found, encoders) or found
    if not set(found) & set(encoders):
        raise ValueError(
            f"{path}: expected one of {', '.join(encoders)}, got {', '.join(found)}; "
            "import with --recipe takes the recipe's names"
        )
    states, lines = {}, []
    for name, module in encoders.items():
        if name not in found:
            lines.append(f"{name}: anew")
            continue
        own, kinds = module.state_dict(), (found[name].kind, describe(module)["kind"])
        encoder, added = fit_columns(found[name], columns, f"{path}: {name}")
        fresh = {key: own[key] for key in encoder.fresh if key in own}
        other = "" if kinds[0] == kinds[1] else " (a {}, here a {})".format(*kinds)
        states[name] = check_weights(module, encoder.tensors | fresh, f"{path}: {name}{other}")
        anew = f"; its weights for {', '.join(added)} are 0" if added else ""
        lines.append(f"{name}: {len(encoder.tensors)} of {len(own)} tensors from {path}{anew}")
    for name, state in states.items() if load else ():
        encoders[name].load_state_dict(state)
    return lines


def _by_kind(found: Mapping[str, Encoder], encoders: Mapping[str, nn.Module]) -> dict[str, Encoder]:
    """A file's encoders by the recipe's names, where each of the two has one alone of a kind."""
    kinds = {name: describe(module)["kind"] for name, module in encoders.items()}
    theirs, ours = Counter(encoder.kind for encoder in found.values()), Counter(kinds.values())
    alone = {e.kind: e for e in found.values() if theirs[e.kind] == ours[e.kind] == 1}
    return {name: alone[kind] for name, kind in kinds.items() if kind in alone}
