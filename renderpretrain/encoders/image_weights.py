"""Published image weights into a recipe's backbone: ``image.weights``."""

from pathlib import Path

from torch import Tensor, nn

from renderpretrain.encoders.image_names import read_image_network
from renderpretrain.storage.safetensors_file import DIGEST
from renderpretrain.storage.weights import check_finite, read_weights


def is_materialized(module: nn.Module) -> bool:
    """Whether a module is more than shapes, which is what the meta device holds of one."""
    return not next(module.parameters()).is_meta


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load published image weights; a classifier's head is left aside. They must fit a meta module, too.

    They may have the names of timm, torchvision, mmdetection or the network's authors, behind whatever
    prefix. Files that ``renderpretrain import`` wrote are among them.

    Args:
        backbone: A ``ResNet``, ``ConvNeXt`` or ``SwinTransformer``.
        path: What ``torch.save`` wrote, or a ``.safetensors`` file.

    Raises:
        ValueError: If the file cannot be read or holds no such network, a parameter of the network itself is
            missing or of another shape, or one is NaN or infinite.
    """
    where = f"image.weights: {path}"
    try:
        weights = read_weights(path)
    except ValueError as error:
        raise ValueError(f"image.weights: {error}") from error
    try:
        read = read_image_network(type(backbone).__name__, weights.tensors)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    fitting = _fitting(backbone, read, where)
    if DIGEST not in weights.header:  # what import wrote was looked at, and asked for
        check_finite(
            fitting, where, "bring it in with `renderpretrain import --allow-nan` to take it as it is"
        )
    if is_materialized(backbone):
        backbone.load_state_dict(fitting, strict=False)


def _fitting(backbone: nn.Module, read: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """What a network has a place for; its output norms, which classifiers lack, may be missing.

    So may the counters of batches, which torch before 0.4.1 did not keep.
    """
    ours = backbone.state_dict()
    wrong = {key: read.get(key) for key, value in ours.items() if not _fits(read.get(key), value)}
    absent = [key for key in wrong if key.endswith("num_batches_tracked") and wrong[key] is None]
    needed = [key for key in wrong if not key.startswith("norm") and key not in absent]
    if needed:
        got = wrong[needed[0]]
        what = "nothing" if got is None else f"{tuple(got.shape)} of {got.dtype}"
        raise ValueError(
            f"{where}: {len(needed)} of {len(ours)} tensors are missing or differ: {needed[0]}: expected "
            f"{tuple(ours[needed[0]].shape)}, got {what}"
        )
    return {key: read[key] for key in ours if key not in wrong}


def _fits(read: Tensor | None, own: Tensor) -> bool:
    """Whether a tensor of a file has a parameter's shape and is of its kind of numbers."""
    if read is None or read.shape != own.shape:
        return False
    return read.is_floating_point() or not own.is_floating_point()
