"""The page of error lines, made from the source: ``python docs/hooks/errors.py`` prints it, the site has it.

It lists what every error of the package says, as a template: ``…`` and ``{name}`` stand for what is
filled in. A hook of mkdocs, which ``mkdocs.yml`` names, so that the page is never older than the source.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import renderpretrain

ROOT = Path(renderpretrain.__file__).parent
PAGE = "errors.md"

KINDS = re.compile(
    r"(Error|_Refused|Exit)$|^(expected|refusal|fault|lacking|doubt|problem|_?too_large|_unreadable)$"
)
"""What makes an error of its words: exceptions, and functions that return one."""

FILLED = "\u2026"
"""Stands for what is filled in where it has no short name."""

CURES = {
    "checks.py": (
        "Arguments of a call",
        "A tensor or a number that was handed to a primitive has another shape, type or range than it "
        "takes. The line names the argument, what was expected (letters are axes: "
        "[vocabulary](vocabulary.md), [concepts](concepts.md#axes)) and what came. `RENDERPRETRAIN_CHECK=1 "
        "python your_loop.py` checks the inner calls, too, and so tells where it went wrong first.",
    ),
    "cli": (
        "The command line",
        "The word before the colon is the flag. `--help` behind the verb says what it takes, `--debug` adds "
        "the traceback.",
    ),
    "data": (
        "Recordings, scenes, batches",
        "The line names the file, the frame and the field. `renderpretrain data check SPEC` lists all of a "
        "recording at once, [Scene folder](scene_folder.md#errors-and-problems) says what each fault means, "
        "[Your data](data.md) what each format must contain. `--skip-bad` trains without bad frames. Files "
        "that are truncated or damaged: copy them again.",
    ),
    "encoders": (
        "Encoders",
        "Sizes that do not fit together, or weights that are not those of the network. [Your "
        "encoder](your_encoder.md) says what an encoder must have and give; `renderpretrain recipes show "
        "RECIPE` prints what a recipe's own has.",
    ),
    "fields": (
        "Fields",
        "The volume's channels and grid must be those that the field was made with. Behind a strided "
        "encoder that is `encoder.output_grid(grid)`: [Concepts](concepts.md#volumes-and-voxel-centers).",
    ),
    "geometry": (
        "Grids, cameras, rays, points",
        "Metres, pixels, or axes are not what they should be. [Concepts](concepts.md) has the conventions, "
        "with figures.",
    ),
    "lifters": (
        "Lifters",
        "Features of images must have the channels, and cameras the number, that the lifter was made for.",
    ),
    "losses": (
        "Losses",
        "Prediction, target and `valid` have one shape. A loss without anything valid is 0 and no error.",
    ),
    "masking": (
        "Masking",
        "Candidates and masks are bool, `True` means hidden; seeds are one whole number for each sample "
        "(`batch.seeds`).",
    ),
    "ops": (
        "Operators",
        "Shapes, types and devices of all tensors of one call must agree. Lines about a library tell that "
        "the compiled kernels could not be loaded; plain PyTorch is used then, and `renderpretrain doctor` "
        "says why: [Troubleshooting](troubleshooting.md#no-compiler).",
    ),
    "probes": (
        "Probes",
        "Labels, seeds and scenes of a probe. [What an encoder is worth](probes.md) says which scenes need "
        "which labels.",
    ),
    "recipes": (
        "Recipes and their settings",
        "`renderpretrain recipes show RECIPE` prints every setting with its value; give one with `--set "
        "NAME=VALUE`. Errors about parts (`lidar`, `camera`, `renderer`) come from your own assembly: [Your "
        "encoder](your_encoder.md).",
    ),
    "renderers": (
        "Renderers",
        "A renderer takes a volume on its field's grid and rays in the same frame.",
    ),
    "runs": (
        "Run folders and checkpoints",
        "Nothing is overwritten: choose another `--out`, or add `--resume`. A damaged checkpoint is named "
        "together with the one before it: [Troubleshooting](troubleshooting.md#a-damaged-checkpoint).",
    ),
    "samplers": (
        "Samplers of rays, and along rays",
        "Numbers of rays or samples, and distances in metres. A sampler that chooses rays needs what it "
        "looks at: points for beams, images for pixels.",
    ),
    "storage": (
        "Files of weights",
        "The file is none of PyTorch or safetensors, is cut off, or holds more than tensors. Copy or save "
        "it again: `torch.save(model.state_dict(), file)`.",
    ),
    "teachers": (
        "Teachers",
        "The network that gives targets, or the maps of it that are stored on the disk. Maps are known by "
        "images and weights; where either has changed, write them again.",
    ),
    "training": (
        "Training",
        "What is wrong before or in a step: settings of the optimiser, processes, losses that are not "
        "finite. [Troubleshooting](troubleshooting.md) has the usual ones.",
    ),
    "transfer": (
        "Weights to and from hosts",
        "[Take the weights home](take_home.md) says what each host takes. `renderpretrain export ... "
        "--json` prints every key.",
    ),
    "verbs": (
        "Verbs called from Python",
        "As on the command line: the word before the colon is the argument.",
    ),
    "report": (
        "Report pages",
        "What is compared must be run folders; a line names the file in one that cannot be read.",
    ),
    "viewer": (
        "The viewer",
        "It needs the extra `viewer`, and a port that is free.",
    ),
    "viz": (
        "Pictures",
        "What is drawn must be one scene and one camera.",
    ),
    "__init__.py": (
        "The package",
        "`dir(renderpretrain)` lists what there is.",
    ),
}
"""By the folder or file of the package: the title of its part of the page, and what to do."""


def word(value: ast.expr) -> str:
    """What stands in a template for an expression that is filled in."""
    name = getattr(value, "id", getattr(value, "attr", ""))
    return f"{{{'type' if name == '__name__' else name.strip('_')}}}" if name else FILLED


def template(said: ast.expr) -> str:
    """The words of an error with what is filled in left open; nothing but that where it is made elsewhere."""
    if isinstance(said, ast.Constant):
        return said.value if isinstance(said.value, str) else FILLED
    if isinstance(said, ast.JoinedStr):
        return "".join(map(template, said.values))
    if isinstance(said, ast.FormattedValue):
        return word(said.value)
    if isinstance(said, ast.BinOp) and isinstance(said.op, ast.Add):
        return template(said.left) + template(said.right)
    return FILLED


def made_by(call: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def has_words(line: str) -> bool:
    """Whether a template says something besides what is filled in."""
    words = re.findall(r"[A-Za-z]+", re.sub(r"\{.*?\}", "", line))
    return len(words) > 2 or "expected" in words


def texts_below(node: ast.AST) -> Iterator[str]:
    """The templates of all texts in a piece of syntax but its docstrings, from the outermost to the last."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp):
        line = " ".join(template(node).split())
        if has_words(line):
            yield line
            return
    for child in ast.iter_child_nodes(node):
        yield from texts_below(child)


def lines_of(call: ast.Call) -> list[str]:
    """What an error says that this call makes: of several texts that it chooses among, each."""
    words = call.args[1:] if made_by(call) in ("doubt", "PydanticCustomError") else call.args
    lines = next(filter(None, ([*texts_below(argument)] for argument in words)), [])
    return [f"expected {line}, got {FILLED}" for line in lines] if made_by(call) == "expected" else lines


def names_in(call: ast.Call) -> set[str]:
    """What the words of an error are taken from: variables, constants and functions."""
    inside = [node for argument in call.args for node in ast.walk(argument)]
    return {node.id for node in inside if isinstance(node, ast.Name)}


def named_texts(nodes: Sequence[ast.AST], names: set[str]) -> Iterator[tuple[int, str]]:
    """Line numbers and templates of what variables of these names are, and functions of them return."""
    for node in nodes if names else ():
        if isinstance(node, ast.Assign) and names & {getattr(target, "id", "") for target in node.targets}:
            yield from ((node.lineno, line) for line in texts_below(node.value))
        elif isinstance(node, ast.FunctionDef) and node.name in names:
            answers = [n for n in ast.walk(node) if isinstance(n, ast.Return | ast.Yield) and n.value]
            yield from ((n.lineno, line) for n in answers for line in texts_below(n))


def errors_in(nodes: Sequence[ast.AST]) -> list[str]:
    """The templates of all errors of a file, each once, in their order."""
    calls = [node for node in nodes if isinstance(node, ast.Call) and KINDS.search(made_by(node))]
    lines = [(call.lineno, line) for call in calls for line in lines_of(call)]
    told_elsewhere = [call for call in calls if not lines_of(call)]
    lines += named_texts(nodes, {name for call in told_elsewhere for name in names_in(call)})
    whole = " ".join(line for _, line in lines)
    lines += [  # what validators yield, and what becomes an error in another file
        (node.lineno, line)
        for node in nodes
        if isinstance(node, ast.JoinedStr)
        for line in texts_below(node)
        if "expected " in line and line not in whole
    ]
    return list(dict.fromkeys(line for _, line in sorted(lines)))


@cache
def sources() -> tuple[tuple[Path, tuple[ast.AST, ...]], ...]:
    """All files of the package with their syntax: the module first, then everything in it."""
    paths = sorted(ROOT.rglob("*.py"))
    return tuple((path, tuple(ast.walk(ast.parse(path.read_text())))) for path in paths)


@cache
def found() -> dict[str, list[tuple[str, str, list[str]]]]:
    """By the package's folder or file: its files that make errors, what they are about, and the templates."""
    parts: dict[str, list[tuple[str, str, list[str]]]] = {}
    for path, nodes in sources():
        place = path.relative_to(ROOT)
        if errors := errors_in(nodes):
            about = (ast.get_docstring(nodes[0]) or "").partition("\n\n")[0]
            parts.setdefault(place.parts[0], []).append((place.as_posix(), " ".join(about.split()), errors))
    return parts


def cure_of(part: str) -> tuple[str, str]:
    """The title of a folder's or file's part of the page, and what to do."""
    return CURES.get(part, (part, "The line says what was expected and what came."))


def shown(line: str) -> str:
    """A template as code of Markdown."""
    fence = "``" if "`" in line else "`"
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def page() -> str:
    """The page, Markdown."""
    parts = found()
    number = sum(len(errors) for files in parts.values() for _, _, errors in files)
    text = [
        "# Every error line\n",
        f"All {number} errors of the package, made from its source. Search for a few words of yours, without "
        f"names and numbers: `{FILLED}` and `{{words in braces}}` stand for what is filled in. An error "
        "is one line on the command line, in Python a `ValueError` or one of its kinds. It names the file, "
        "argument or field, what was expected and what came. What happens most often has its cure in "
        "[Troubleshooting](troubleshooting.md).\n",
    ]
    for part, files in sorted(parts.items(), key=lambda item: cure_of(item[0])):
        title, cure = cure_of(part)
        text.append(f"## {title}\n\n**What to do.** {' '.join(cure.split())}\n")
        for place, about, errors in files:
            text.append(f"### {place}\n\n{about}\n")
            text.append("\n".join(f"- {shown(line)}" for line in errors) + "\n")
    return "\n".join(text)


def on_files(files, config):
    """Add the page to the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=page()))
    return files


def on_page_markdown(markdown, **_):
    """Links to this file, which is there in the repository, lead to its page."""
    return markdown.replace("](hooks/errors.py)", f"]({PAGE})")


if __name__ == "__main__":
    print(page())
