"""Labelled pictures side by side, one frame after the other: a GIF, or an MP4 where there is ffmpeg."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from renderpretrain.storage.files import write_atomically
from renderpretrain.viz.sheet import BACKGROUND, HEADER, INK, MARGIN

SUFFIXES = (".gif", ".mp4")


def check_animation(name: str, path: Path) -> None:
    """Refuse a file that cannot become an animation, before anything is computed.

    Args:
        name: What the user calls it.
        path: The file.

    Raises:
        ValueError: If its suffix is not known, or ffmpeg is missing for an MP4.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{name}: expected a file that ends in .gif or .mp4, got {path}")
    if path.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise ValueError(
            f"{name}: {path} needs ffmpeg, which is not there; a file that ends in .gif does not"
        )


def save_animation(
    path: Path,
    frames: Sequence[Sequence[tuple[str, Float[Tensor, "3 H W"]]]],
    *,
    scale: int = 2,
    seconds: float = 0.15,
) -> Path:
    """Write frames as one file that repeats for ever, creating its folder.

    Args:
        path: Ends in ``.gif`` or ``.mp4``.
        frames: Each its pictures from left to right with their captions, RGB in [0, 1]; all of one size.
        scale: Pixels of the file along a pixel's side.
        seconds: A frame lasts.

    Raises:
        ValueError: As :func:`check_animation` does, or if ffmpeg fails.
        OSError: If the file cannot be written.
    """
    check_animation("animation", path)
    drawn = [_frame(pictures, scale) for pictures in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".mp4":
        return _save_mp4(path, drawn, seconds)
    # One palette for all frames: colours do not flicker from one to the next.
    palette = _side_by_side(drawn).quantize(256, dither=Image.Dither.NONE)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in drawn)
    milliseconds = round(1000 * seconds)
    write_atomically(
        path,
        lambda file: first.save(
            file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=True
        ),
    )
    return path


def _frame(pictures: Sequence[tuple[str, Tensor]], scale: int) -> Image.Image:
    """One frame."""
    font = ImageFont.load_default()
    images = []
    for _, tensor in pictures:
        array = (tensor.detach().cpu().clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
        image = Image.fromarray(np.ascontiguousarray(array))
        size = (image.width * scale, image.height * scale)
        images.append(image.resize(size, Image.Resampling.BILINEAR))
    width = sum(image.width + MARGIN for image in images) + MARGIN
    height = max(image.height for image in images) + HEADER + MARGIN
    # Even sides: what most players of MP4 ask for.
    whole = Image.new("RGB", (width + width % 2, height + height % 2), BACKGROUND)
    draw, left = ImageDraw.Draw(whole), MARGIN
    for (caption, _), image in zip(pictures, images, strict=True):
        draw.text((left, 3), caption, INK, font=font)
        whole.paste(image, (left, HEADER))
        left += image.width + MARGIN
    return whole


def _side_by_side(frames: Sequence[Image.Image]) -> Image.Image:
    """Some of the frames in one picture, whose colours are those of all."""
    some = frames[:: max(1, len(frames) // 8)]
    whole = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for number, frame in enumerate(some):
        whole.paste(frame, (0, number * frame.height))
    return whole


def _save_mp4(path: Path, frames: Sequence[Image.Image], seconds: float) -> Path:
    """Hand the frames to ffmpeg; what stood at the path stays until it has ended well."""
    width, height = frames[0].size
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", f"{1 / seconds:.3f}", "-i", "-"]
    command += ["-pix_fmt", "yuv420p", "-f", "mp4"]

    def write(file: BinaryIO) -> None:
        done = subprocess.run(
            [*command, file.name],
            input=b"".join(frame.tobytes() for frame in frames),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            reason = said[-1] if said else done.returncode
            raise ValueError(f"animation: ffmpeg cannot write {path}: {reason}")

    write_atomically(path, write)
    return path
