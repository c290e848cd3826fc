"""Builds ``csrc/*_cuda.cu`` for the CPU: ``python build.py [--sanitize address|threads]`` prints the folder.

The sources are copied and changed in two places only: a launch, ``kernel<<<...>>>(...);``, becomes a call,
and ``__shared__`` memory is asked of the emulator. The folder can be given as ``RENDERPRETRAIN_NATIVE``: the
libraries for the CPU are there too.
"""

import argparse
import fcntl
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
NATIVE = ROOT / "renderpretrain" / "_native"
LIBRARY = "librenderpretrain_cuda.so"
ASSEMBLY = "common/mma_cuda.h"
"""The one file of csrc that may have assembly: the emulator stands in for its functions."""

FLAGS = "-std=c++17 -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -g1 -w"
KINDS = {
    "plain": "-O1",
    "address": "-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all",
    "threads": "-O1 -fno-omit-frame-pointer -fsanitize=thread -DEMULATED_THREADS",
}
"""Flags by what is looked for beside wrong results."""


class NotEmulated(Exception):
    """What a source has that the emulator does not know, with its file and line."""


def rewritten(text: str, name: str) -> str:
    """A source of csrc as a C++ compiler takes it, every line where it was."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)

    def place(position: int) -> str:
        return f"csrc/{name}:{code.count(chr(10), 0, position) + 1}"

    if name != ASSEMBLY and (found := re.search(r"\b(asm|__asm__)\b", code)):
        raise NotEmulated(f"{place(found.start())}: assembly belongs into csrc/{ASSEMBLY}")
    try:
        code = re.sub(r"(extern\s+)?__shared__\s+([^;]+);", _shared, code)
        while (start := code.find("<<<")) >= 0:
            code = _launch(code, start)
    except NotEmulated as error:
        raise NotEmulated(f"csrc/{name}: {error}") from None
    return code


def _shared(found: re.Match[str]) -> str:
    """``__shared__ float a[4][5], b;`` becomes references to memory of the block."""
    declared = re.sub(r"__align__\(\w+\)", "", found[2])
    # The type ends before the first name that a bracket, a comma or the end follows.
    names = re.search(r"\w+\s*(?:\[|,|$)", declared)
    if names is None or not declared[: names.start()].strip():
        raise NotEmulated(f"shared memory that is not understood: {found[0]}")
    kind, lines, parts = declared[: names.start()].strip(), "\n" * found[0].count("\n"), []
    for part in re.split(r",(?![^\[]*\])", declared[names.start() :]):
        variable, sizes = re.fullmatch(r"\s*(\w+)\s*(.*)", part, re.DOTALL).groups()
        if found[1]:
            parts.append(f"{kind}* const {variable} = static_cast<{kind}*>(emulated::dynamic_shared());")
        else:
            parts.append(f"static char {variable}_key; auto& {variable} = ")
            parts.append(f"emulated::shared_array<{kind}{sizes}>(&{variable}_key);")
    return "".join(parts) + lines


def _launch(code: str, start: int) -> str:
    """``kernel<<<blocks, threads>>>(arguments);`` becomes a call with the kernel as its body."""
    kernel = re.search(r"[\w:]+(?:<[^;{}]*>)?\s*$", code[:start])
    rest = re.match(r"<<<(.*?)>>>\s*\((.*?)\)\s*;", code[start:], re.DOTALL)
    if kernel is None or rest is None:
        raise NotEmulated(f"a launch that is not understood: {code[start : start + 60]}")
    name = kernel[0].strip()
    call = f"emulated::Launch({rest[1]}).run(emulated::address({name}), [&] {{ {name}({rest[2]}); }});"
    return code[: kernel.start()] + call + code[start + rest.end() :]


def compiler() -> list[str]:
    """The C++ compiler and its first arguments, ``CXX`` where it is set."""
    return shlex.split(os.environ.get("CXX", "g++"))


def sanitizer_runtime(kind: str) -> str | None:
    """What must be loaded before Python for a kind of build; None for a plain one."""
    library = {"address": "libasan.so", "threads": "libtsan.so"}.get(kind)
    if library is None:
        return None
    names = (library, "libstdc++.so")
    asked = [
        subprocess.run([*compiler(), f"-print-file-name={name}"], capture_output=True, text=True)
        for name in names
    ]
    return " ".join(done.stdout.strip() for done in asked)


def write_changed(path: Path, text: str) -> None:
    """Write a file unless it says the same already, so that only what has changed is compiled again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write_sources(csrc: Path, folder: Path) -> list[Path]:
    """The sources of the CUDA library, rewritten, and those of the emulator; what is to be compiled."""
    sources = []
    for path in sorted([*csrc.rglob("*.h"), *csrc.rglob("*_cuda.cu")]):
        name = path.relative_to(csrc).as_posix()
        target = folder / (name if path.suffix == ".h" else name.replace(".cu", ".cpp"))
        write_changed(target, f'#line 1 "csrc/{name}"\n' + rewritten(path.read_text(), name))
        if target.suffix == ".cpp":
            sources.append(target)
    return [*sources, *sorted(HERE.glob("*.cpp"))]


def compile_source(source: Path, folder: Path, kind: str) -> Path:
    """One object file, unless it is newer than all that was read for it and this file."""
    target, listed = folder / f"{source.stem}.o", folder / f"{source.stem}.d"
    if target.exists() and listed.exists():
        names = listed.read_text().replace("\\\n", " ").split()[1:]
        read = [source, Path(__file__), *(folder / name for name in names)]
        if all(path.exists() and path.stat().st_mtime < target.stat().st_mtime for path in read):
            return target
    flags = f"{FLAGS} {KINDS[kind]}"
    if source.parent == HERE and kind == "threads":
        flags += " -fno-sanitize=thread"  # the scheduler is no part of the program
    # Within the folder, so that what was read is listed where it is after the folder was copied, too.
    name = os.path.relpath(source, folder) if source.is_relative_to(folder) else str(source)
    command = [*compiler(), *flags.split(), f"-I{HERE / 'include'}", "-I."]
    command += ["-include", "cuda_runtime.h", "-MMD", "-c", name, "-o", target.name]
    subprocess.run(command, cwd=folder, check=True)
    return target


def build(folder: Path, kind: str = "plain", csrc: Path = CSRC) -> Path:
    """The folder of the CUDA library for the CPU, made anew where sources have changed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        return build_alone(folder, kind, csrc)


def build_alone(folder: Path, kind: str, csrc: Path) -> Path:
    """The same, by the one process that may."""
    sources = write_sources(csrc, folder / "sources")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: compile_source(source, folder / "sources", kind), sources))
    library = folder / LIBRARY
    if not library.exists() or library.stat().st_mtime < max(path.stat().st_mtime for path in objects):
        command = [*compiler(), *FLAGS.split(), *KINDS[kind].split(), "-shared"]
        subprocess.run([*command, *map(str, objects), "-o", str(library)], check=True)
    for path in NATIVE.glob("librenderpretrain_cpu*.so"):
        link = folder / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitize", default="plain", choices=KINDS)
    kind = parser.parse_args().sanitize
    try:
        print(build(ROOT / "build" / "emulated" / kind, kind))
    except NotEmulated as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        return 1  # the compiler has said why
    return 0


if __name__ == "__main__":
    sys.exit(main())
