"""What a pickle says, read without importing or calling anything that it names.

Every class and function is a name here. Tensors become :class:`StoredTensor`, dictionaries and lists are
themselves, and everything else, such as a framework's own objects beside the weights, an :class:`Inert`.
Who expects other things than tensors says by :class:`PickledThings` what is made of which names.
"""

import pickletools
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from renderpretrain.storage.inert import Inert, Named, StoredTensor

CUT = "not a whole checkpoint (it ends too early)"
BUILTINS = ("builtins", "__builtin__")
COMMANDS = (
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "commands",
    "shutil",
    "socket",
    "runpy",
    "ctypes",
    "pty",
)
"""Modules that no checkpoint has a reason to name."""

EVALUATORS = ("eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint")
"""Built-in functions of Python that run code."""


@dataclass(frozen=True)
class PickledThings:
    """What a pickle may hold beside plain containers, numbers and text, which is then all it may hold.

    Attributes:
        what: In plural, for messages.
        made: What is made of the functions and classes that it names, by ``module.name``, from the arguments.
        set_state: Gives a thing the state that follows it.
    """

    what: str
    made: Mapping[str, Callable[..., Any]]
    set_state: Callable[[Any, Any], None]

    def refusal(self, got: object) -> ValueError:
        """The error for what it may not hold."""
        return ValueError(f"expected {self.what}, got {got}")


def read_pickle(
    stream: Any,
    *,
    data_only: bool = False,
    storages: list[Any] | None = None,
    things: PickledThings | None = None,
) -> Any:
    """The next pickle of a stream.

    Args:
        stream: Has ``read`` and ``readline``; is left behind the pickle.
        data_only: Whether objects of other classes are refused instead of passed over.
        storages: Takes what the pickle says of every storage that it names.
        things: What is made of names instead of tensors; everything else is refused. Sets become lists.

    Raises:
        ValueError: If it is damaged, ends too early, or names what runs commands.
    """
    machine = _Machine(data_only, [] if storages is None else storages, things)
    try:
        with warnings.catch_warnings():  # of escapes in damaged texts, which mean nothing to a user
            warnings.simplefilter("ignore", DeprecationWarning)
            for name, argument in _instructions(stream):
                machine.step(name, argument)
        return machine.stack.pop()
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("a damaged pickle") from error


def _instructions(stream: Any) -> Iterator[tuple[str, Any]]:
    """The instructions up to the end of the pickle, with their arguments."""
    try:
        for step, argument, _ in pickletools.genops(stream):
            yield step.name, argument
    except (ValueError, struct.error) as error:
        cut = any(word in str(error) for word in ("exhausted", "not enough", "but only", "no newline"))
        raise ValueError(CUT if cut else "a damaged pickle") from error


class _Machine:
    """The pickle machine's stack and memory. Its instructions make data, and call nothing."""

    def __init__(self, data_only: bool, storages: list[Any], things: PickledThings | None = None) -> None:
        self.data_only, self.storages, self.things = data_only, storages, things
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction of the pickle."""
        if name in PUSHED:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in MEMORY:
            MEMORY[name](self, argument)
        elif name in INSTRUCTIONS:
            INSTRUCTIONS[name](self)
        elif name in CLASSES:
            self.stack.append(CLASSES[name](self, argument))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"an instruction that checkpoints do not have ({name})")

    def push(self, value: Any) -> None:
        """Put a value on top of the stack."""
        self.stack.append(value)

    def to_mark(self) -> list[Any]:
        """What was put down since the last mark."""
        found, self.stack = self.stack, self.marks.pop()
        return found

    def popped(self, count: int) -> tuple[Any, ...]:
        """The topmost values, the last put down last."""
        if len(self.stack) < count:
            raise IndexError
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return tuple(found)

    def inert(self, kind: object) -> Inert:
        """An object that is passed over."""
        if self.things is not None:
            raise self.things.refusal(kind)
        if self.data_only:
            raise ValueError(f"expected tensors, numbers and text, got {kind}")
        return Inert(str(kind))

    def named(self, module: Any, name: Any) -> Named:
        """A class or function; those that run commands are refused although nothing would call them."""
        found = Named(str(module), str(name))
        if self.things is not None:
            if str(found) not in self.things.made:
                raise self.things.refusal(found)
            return found
        evaluates = found.module in BUILTINS and found.name.split(".")[0] in EVALUATORS
        if evaluates or found.module.split(".")[0] in COMMANDS:
            raise ValueError(f"refused: reading it would run {found}")
        return found

    def call(self, function: Any, arguments: Any) -> Any:
        """What a function would make."""
        if self.things is not None:
            if not isinstance(function, Named):
                raise self.things.refusal("something that is no function")
            return self.things.made[str(function)](*arguments)
        made = MADE.get(str(function)) if isinstance(function, Named) else None
        if made is None:
            return self.inert(function if isinstance(function, Named) else "something that is no function")
        return made(self, *arguments)

    def set_items(self, target: Any, pairs: list[Any]) -> None:
        """Fill a dictionary; keys that are no plain values stand for themselves."""
        items = target.items if isinstance(target, Inert) else target
        if not isinstance(items, dict):
            raise TypeError
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            items[key if isinstance(key, PLAIN) else self.key(key)] = value

    def key(self, value: Any) -> Inert:
        """What stands for a key that is no plain value."""
        if self.things is not None:
            raise self.things.refusal(f"a {type(value).__name__} as a key")
        return Inert("key")


PLAIN = (str, int, float, bytes, type(None))
"""Keys that can be looked up; a tuple of tuples of the same tuple takes for ever to hash."""


def _append(machine: _Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Inert):
        raise TypeError


def _set_item(machine: _Machine) -> None:
    key, value = machine.popped(2)
    machine.set_items(machine.stack[-1], [key, value])


def _set_items(machine: _Machine) -> None:
    pairs = machine.to_mark()
    machine.set_items(machine.stack[-1], pairs)


def _dict(machine: _Machine) -> None:
    made: dict[Any, Any] = {}
    machine.set_items(made, machine.to_mark())
    machine.push(made)


def _mark(machine: _Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _reduce(machine: _Machine) -> None:
    machine.push(machine.call(*machine.popped(2)))


def _new(machine: _Machine, count: int) -> None:
    kind, arguments, *_ = machine.popped(count)
    machine.push(machine.call(kind, arguments))


def _object(machine: _Machine) -> None:
    kind, *_ = machine.to_mark()
    machine.push(machine.inert(kind))


def _state(machine: _Machine) -> None:
    """State of an object. That of a ``state_dict`` is kept: the versions of its modules."""
    target, state = machine.popped(2)
    if machine.things is not None:
        machine.things.set_state(target, state)
        machine.push(target)
        return
    metadata = state.get("_metadata") if isinstance(state, dict) else None
    if isinstance(target, OrderedDict) and isinstance(metadata, dict):
        target._metadata = metadata  # type: ignore[attr-defined]
    machine.push(target)


def _persistent(machine: _Machine) -> None:
    if machine.things is not None:
        raise machine.things.refusal("something that lies outside of the pickle")
    machine.storages.append(machine.stack[-1])


def _group(machine: _Machine, kind: str) -> None:
    members = machine.to_mark()
    machine.push(machine.inert(kind) if machine.things is None else members)


def _remember(machine: _Machine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else int(index)] = machine.stack[-1]


def _recall(machine: _Machine, index: Any) -> None:
    machine.push(machine.memo[int(index)])


def _split_name(machine: _Machine, both: str) -> Named:
    module, _, name = both.partition(" ")
    return machine.named(module, name)


def _instance(machine: _Machine, both: str) -> Inert:
    machine.to_mark()
    return machine.inert(_split_name(machine, both))


PUSHED = frozenset(
    """BYTEARRAY8 INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8""".split()  # noqa: SIM905
)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
CLASSES: dict[str, Callable[[_Machine, str], Any]] = {"GLOBAL": _split_name, "INST": _instance}
MEMORY: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
}
INSTRUCTIONS: dict[str, Callable[[_Machine], Any]] = {
    "MARK": _mark,
    "POP": lambda m: m.popped(1) if m.stack else m.to_mark(),
    "POP_MARK": _Machine.to_mark,
    "DUP": lambda m: m.push(m.stack[-1]),
    "APPEND": lambda m: _append(m, list(m.popped(1))),
    "APPENDS": lambda m: _append(m, m.to_mark()),
    "ADDITEMS": lambda m: _append(m, m.to_mark()),
    "LIST": lambda m: m.push(m.to_mark()),
    "TUPLE": lambda m: m.push(tuple(m.to_mark())),
    "TUPLE1": lambda m: m.push(m.popped(1)),
    "TUPLE2": lambda m: m.push(m.popped(2)),
    "TUPLE3": lambda m: m.push(m.popped(3)),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "FROZENSET": lambda m: _group(m, "frozenset"),
    "REDUCE": _reduce,
    "BUILD": _state,
    "NEWOBJ": lambda m: _new(m, 2),
    "NEWOBJ_EX": lambda m: _new(m, 3),
    "OBJ": _object,
    "STACK_GLOBAL": lambda m: m.push(m.named(*m.popped(2))),
    "EMPTY_SET": lambda m: m.push(Inert("set") if m.things is None else []),
    "BINPERSID": _persistent,
}


def _ordered(machine: _Machine, pairs: Any = (), *_: Any) -> OrderedDict[Any, Any]:
    """An ordered or defaulting dictionary: the pairs it begins with."""
    made: OrderedDict[Any, Any] = OrderedDict()
    if isinstance(pairs, list | tuple):
        machine.set_items(made, [side for key, value in pairs for side in (key, value)])
    elif isinstance(pairs, dict):
        made.update(pairs)
    return made


def _tensor(_: _Machine, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Any:
    """A dense tensor; its numbers may be stored negated or conjugated, which no weights are."""
    return Inert("a negated tensor") if any(more[2:]) else StoredTensor(storage, offset, size, stride)


def _typed_tensor(_: _Machine, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Any:
    """A dense tensor of a type that has no storage of its own."""
    return (
        Inert("a negated tensor") if any(more[3:]) else StoredTensor(storage, offset, size, stride, more[2])
    )


MADE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda machine, *_: _ordered(machine),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": lambda _, tensor, *__: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda _, tensor, *__: tensor,
    "torch._tensor._rebuild_from_type_v2": lambda machine, function, _, arguments, *__: machine.call(
        function, arguments
    ),
}
"""What is made of the functions that ``torch.save`` and Python's dictionaries name."""
