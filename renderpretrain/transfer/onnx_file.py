"""ONNX: image encoders and dense necks as files that run without PyTorch, compared with onnxruntime."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders import TimmBackbone, WindowAttention
from renderpretrain.transfer.comparing import shapes_of
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.pretrained import encoder_module
from renderpretrain.transfer.report import PartReport, TransferReport
from renderpretrain.transfer.verify import TOLERANCE, largest_difference

OPSET = 17
"""Version of ONNX's operators: the first with layer norm, read by onnxruntime since 1.12."""

ONE_SIZE = (WindowAttention, TimmBackbone)
"""Parts of networks that ask how large an image is: their files take the size they were made for."""

Given = Tensor | list[Tensor]
"""What a network is called with: images, a volume, or the maps of an image network."""

REFUSED = {
    "points": "its sparse convolutions are no operators of ONNX",
    "": "no network of images, maps or volumes that could be traced",
}
"""Why encoders that read this cannot be written."""


def onnx_network(pretrained: Pretrained) -> tuple[bytes, TransferReport, str]:
    """One network as an ONNX file: an image encoder, with its neck where there is one, or a dense neck.

    The batch may have any size; so may images and volumes, but those of :data:`ONE_SIZE`. The file is run
    with onnxruntime on random inputs of two sizes, and its outputs are compared with PyTorch's.

    Args:
        pretrained: The encoders; those that ONNX cannot express are left out.

    Returns:
        The file, what is in it, and lines that run it; ``FILE`` stands for its path.

    Raises:
        ValueError: If onnx or onnxruntime is missing, there is no such network or more than one, an operator
            has no translation, or outputs differ by more than ``TOLERANCE`` of the largest.
    """
    _imported("onnx")  # which torch writes with
    runtime = _imported("onnxruntime")
    networks, left = _networks(pretrained.encoders)
    if len(networks) != 1:
        raise ValueError(_not_one(networks, left, pretrained.encoders))
    [names] = networks
    encoders = {name: pretrained.encoders[name] for name in names}
    modules = [encoder_module(name, pretrained).float().eval() for name in names]
    # Torch's exporter gives all parts the mode that the whole was in.
    network = modules[0] if len(modules) == 1 else nn.Sequential(*modules).eval()
    first, last = encoders[names[0]], names[-1]
    size = (pretrained.about.get("config") or {}).get("image_size") or (256, 704)
    given = [_example(first, modules[0], batch, (size[0], size[1])) for batch in (1, 2)]
    inputs = _named(_reads(first), given[0])
    content = _traced(network, given[0], inputs, not _takes_one_size(modules[0]), last)
    absolute, relative = _compared(runtime, network, content, given, "+".join(names))
    shapes = {f"{n}.{k}": v for n, e in encoders.items() for k, v in shapes_of(e.tensors).items()}
    part = PartReport("+".join(names), "ONNX", matched=shapes, verified=relative)
    tried = " and ".join(str(tuple(_tensors(each)[0].shape)) for each in given)
    compared = (
        f"onnxruntime {runtime.__version__} against PyTorch on {tried}: largest difference {absolute:.1e}, "
        f"{relative:.1e} of the largest output (at most {TOLERANCE:.0e})"
    )
    report = TransferReport(f"onnx (opset {OPSET})", (part,), left, (compared,))
    return content, report, _snippet(inputs)


def _networks(encoders: Mapping[str, Encoder]) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """What can be written, parts of one network together; and why the others cannot."""
    reading = {name: _reads(encoder) for name, encoder in encoders.items()}
    chain = tuple(n for kind in ("images", "maps") for n, reads in reading.items() if reads == kind)
    alone = [(name,) for name, reads in reading.items() if reads == "volume"]
    left = {n: f"{encoders[n].kind}: {REFUSED[reads]}" for n, reads in reading.items() if reads in REFUSED}
    return [*([chain] if chain else []), *alone], left


def _reads(encoder: Encoder) -> str:
    """What an encoder reads; a network of timm, which no file builds, is one on images."""
    return "images" if encoder.kind == "TimmBackbone" else encoder.role.reads


def _not_one(
    networks: Sequence[Sequence[str]], left: Mapping[str, str], encoders: Mapping[str, Encoder]
) -> str:
    """Why there is not exactly one network to write."""
    if networks:
        choices = " or ".join("+".join(names) for names in networks)
        return f"part: expected {choices}, for an ONNX file holds one network; got {'+'.join(encoders)}"
    reasons = "; ".join(f"{name} ({why})" for name, why in left.items())
    return f"to: onnx takes image encoders and dense necks, not {reasons}"


def _takes_one_size(module: nn.Module) -> bool:
    """Whether a file of a network takes images of the size it was made for alone."""
    return any(isinstance(part, ONE_SIZE) for part in module.modules())


def _example(encoder: Encoder, module: Any, batch: int, size: tuple[int, int]) -> Given:
    """Random numbers that a network reads; of larger batches another size where it may have one."""
    generator = torch.Generator().manual_seed(batch)
    reads = _reads(encoder)
    grown = 1 if _takes_one_size(module) else batch
    if reads == "images":
        return torch.randn(batch, 3, size[0], size[1] * grown, generator=generator)
    if reads == "volume":
        return torch.randn(batch, module.in_channels, 4, 16, 16 * grown, generator=generator)
    widths = [max(width, 1) for width in module.sizes["in_channels"]]  # 0 of a map that is not read
    return [
        torch.randn(batch, width, 64 >> i, 64 * grown >> i, generator=generator)
        for i, width in enumerate(widths)
    ]


def _tensors(given: Given) -> list[Tensor]:
    """The tensors a network is called with, one after the other."""
    return [given] if isinstance(given, Tensor) else given


def _named(reads: str, given: Given) -> dict[str, Tensor]:
    """The inputs of a file by their names."""
    tensors = _tensors(given)
    return {reads if len(tensors) == 1 else f"{reads}.{i}": tensor for i, tensor in enumerate(tensors)}


def _sides(name: str, tensor: Tensor) -> dict[int, str]:
    """What the open axes of an image, a map or a volume are called, beside the batch."""
    letters = {4: ("height", "width"), 5: ("depth", "height", "width")}
    return {i + 2: f"{name}.{side}" for i, side in enumerate(letters[tensor.ndim])}


def _traced(network: nn.Module, given: Given, inputs: Mapping[str, Tensor], free: bool, last: str) -> bytes:
    """The file of a network; ``free`` leaves the sides of images and volumes open beside the batch."""
    with torch.no_grad():
        made = network(given)
    names = [last] if isinstance(made, Tensor) else [f"{last}.{i}" for i in range(len(made))]
    outputs = dict(zip(names, [made] if isinstance(made, Tensor) else made, strict=True))
    axes = {name: {0: "batch", **(_sides(name, x) if free else {})} for name, x in inputs.items()}
    # The exporter would give all outputs of a pyramid the same names, as if they were of one size.
    axes |= {name: {0: "batch", **_sides(name, x)} for name, x in outputs.items()}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "network.onnx"
        warnings.simplefilter("ignore")  # a trace warns of every check of a shape
        try:
            torch.onnx.export(
                network,
                (given,),
                path,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,  # the other exporter needs onnxscript, too
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"to: onnx has no translation of {last} ({reason})") from error
        return path.read_bytes()


def _compared(
    runtime: Any, network: nn.Module, content: bytes, given: Sequence[Given], what: str
) -> tuple[float, float]:
    """The largest difference of outputs, and as a share of the largest output."""
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    wanted = [each.name for each in session.get_inputs()]
    absolute, relative = 0.0, 0.0
    for each in given:
        with torch.no_grad():
            outputs = network(each)
        ours = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        fed = {k: v.numpy() for k, v in zip(wanted, _tensors(each), strict=True)}
        theirs = [torch.from_numpy(array) for array in session.run(None, fed)]
        relative = max(relative, largest_difference(ours, theirs))
        if relative > TOLERANCE:
            raise ValueError(
                f"to: onnx: {what}: onnxruntime's outputs differ from PyTorch's by {relative:.1e} of the "
                f"largest, expected at most {TOLERANCE:.0e}"
            )
        absolute = max(absolute, *(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)))
    return absolute, relative


def _snippet(inputs: Mapping[str, Tensor]) -> str:
    """Lines that run the file."""
    fed = ", ".join(f"{name!r}: np.zeros({tuple(x.shape)}, np.float32)" for name, x in inputs.items())
    return (
        "import numpy as np, onnxruntime\n"
        "session = onnxruntime.InferenceSession('FILE')\n"
        f"outputs = session.run(None, {{{fed}}})\n"
    )


def _imported(name: str) -> Any:
    """A package that only ONNX files need.

    Raises:
        ValueError: If it is not installed, or broken.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f'to: onnx needs pip install "renderpretrain[onnx]" ({reason})') from error
