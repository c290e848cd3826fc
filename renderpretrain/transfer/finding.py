"""Where in a checkpoint of another framework its encoders lie, and how."""

from collections.abc import Collection

from renderpretrain.encoders.key_tables import dotted
from renderpretrain.storage.weights import Weights
from renderpretrain.transfer.layouts import Layout, Shapes, Tensors, guess_kernels, kernel_size
from renderpretrain.transfer.part import Host, Part


def places_of(part: Part, keys: Collection[str]) -> list[str]:
    """What stands before the keys of every encoder of a kind in a file."""
    found = [key.removesuffix(part.marker) for key in keys if key.endswith(part.marker)]
    whole = [place for place in found if not place or place.endswith(".")]
    return [place for place in whole if not part.absent or place + part.absent not in keys]


def find_part(part: Part, keys: Collection[str], host: Host, given: str | None) -> str | None:
    """What stands before the keys of an encoder, or ``None`` where a file has none such.

    Without a prefix it is looked for where the host has it; in files of libraries, whose networks have
    none, at the one place where it lies.
    """
    places = places_of(part, keys)
    if given is None and host.wrapper is None and len(places) == 1:
        return places[0]
    asked = dotted(given)
    prefix = part.prefix if asked is None else asked
    return prefix if prefix in places else None


def kernel_layout(part: Part, known: Tensors, foreign: Weights, where: tuple[Host, str]) -> Layout:
    """How a file's sparse kernels lie: by its modules' versions, else by their shapes."""
    host, prefix = where
    kernels = {k: tuple(v.shape) for k, v in known.items() if v.ndim == 5}
    if part.axes is None or not kernels:
        return host.layout
    marked = any(m.startswith(prefix) and v == 2 for m, v in foreign.versions.items() if m)
    named = marked and any(f"{prefix}{k.removesuffix('.weight')}" in foreign.versions for k in kernels)
    guess = guess_kernels(kernels.values(), "RSCK" if host.versions and not named else host.layout.kernels)
    layout = Layout("KRSC" if named else guess, host.layout.axes)
    for key, shape in kernels.items():
        if kernel_size(shape, layout) == (1, 1, 3):
            raise ValueError(
                f"{prefix}{key}: {shape} is long along x as {host.name} orders axes; "
                f"try --from {'openpcdet' if layout.axes == 'xyz' else 'bevfusion'}"
            )
    return layout


def nothing_found(
    foreign: Weights, host: Host, given: str | None, recipe: tuple[str, list[str]] | None
) -> str:
    """Why no encoder was found.

    Args:
        foreign: The file.
        host: Whose it should be.
        given: The prefix that was asked for.
        recipe: Its name and the kinds it has, where one was asked for.
    """
    lies = {(part, place): None for part in host.parts for place in places_of(part, foreign.tensors)}
    for part, place in lies:
        usual = part.prefix if given is None else given
        if place != usual:
            several = [repr(other) for same, other in lies if same is part]
            more = f"; it lies under {', '.join(several)}" if len(several) > 1 else ""
            return f"expected keys that begin with {usual!r}; {part.kind} lies under --prefix {place!r}{more}"
        if recipe is not None:
            return f"holds {part.kind}, which {recipe[0]} does not have; it has {', '.join(recipe[1])}"
        return f"holds {part.kind}, which only a recipe can build; name it with --recipe"
    first = ", ".join(list(foreign.tensors)[:3])
    return f"expected an encoder of {host.title}, got keys such as {first}"


def by_module(shapes: Shapes) -> str:
    """What a file has beside the encoders: first words of its keys, and how many of each."""
    counts: dict[str, int] = {}
    for key in shapes:
        word = key.split(".")[0]
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{word} ({count} tensors)" for word, count in counts.items())
