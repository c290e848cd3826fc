"""``renderpretrain doctor``: what works on this machine, and why not."""

import json
import platform
import shutil
from collections.abc import Callable
from typing import Annotated

import typer

Finding = tuple[bool, str]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Look at torch, the compiled kernels, spconv, nerfacc, torch-scatter, devices and the disk."""
    found = {name: _guarded(look) for name, look in LOOKS.items()}
    if as_json:
        typer.echo(json.dumps({name: {"ok": ok, "why": why} for name, (ok, why) in found.items()}, indent=2))
    else:
        for name, (ok, why) in found.items():
            typer.echo(f"{'ok' if ok else '--':<4}{name:<16}{why}")
    if not found["torch"][0]:
        raise typer.Exit(1)


def _guarded(look: Callable[[], Finding]) -> Finding:
    """A broken package may raise anything on import; the others are still worth looking at."""
    try:
        return look()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        return False, f"{type(error).__name__}: {reason}"


def _torch() -> Finding:
    """The version, and the threads it uses."""
    import torch

    return (
        True,
        f"{torch.__version__} on Python {platform.python_version()}, {torch.get_num_threads()} threads",
    )


def _compiled(device: str) -> Finding:
    """Whether our kernels for a device were loaded."""
    import torch

    from renderpretrain.ops import native_status

    if device == "cuda" and torch.cuda.is_available():
        torch.cuda.init()  # it is known from then on whether there is code for the cards
    status = native_status()[device]
    return status.ok, status.why


def _spconv(device: str) -> Finding:
    """Whether spconv passes its self-test on a device."""
    from renderpretrain.encoders import spconv_status

    status = spconv_status(device)
    return bool(status["ok"]), str(status["why"])


def _nerfacc() -> Finding:
    """Only its pure-PyTorch parts work without CUDA."""
    import nerfacc

    return True, f"{nerfacc.__version__}; compared with in tests"


def _scatter() -> Finding:
    """A cached wheel breaks when torch is upgraded."""
    import torch_scatter

    return True, f"{torch_scatter.__version__}; compared with in tests"


def _devices() -> Finding:
    """What can train."""
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return True, ", ".join([*names, "cpu"]) + ("" if names else "; no CUDA device is visible to torch")


def _disk() -> Finding:
    """Room for checkpoints where the user stands."""
    free = shutil.disk_usage(".").free / 2**30
    return free > 1, f"{free:.1f} GiB free here" + ("" if free > 1 else "; runs need room for checkpoints")


LOOKS: dict[str, Callable[[], Finding]] = {
    "torch": _torch,
    "compiled_cpu": lambda: _compiled("cpu"),
    "compiled_cuda": lambda: _compiled("cuda"),
    "spconv_cpu": lambda: _spconv("cpu"),
    "spconv_cuda": lambda: _spconv("cuda"),
    "nerfacc": _nerfacc,
    "torch_scatter": _scatter,
    "devices": _devices,
    "disk": _disk,
}
"""What is looked at, in the order it is told."""
