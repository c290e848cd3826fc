"""The verbs, and how they end: 0 done, 1 the user's error in one line, 2 usage."""

import os
import sys

import typer

from renderpretrain.cli.doctor import doctor
from renderpretrain.cli.evaluate import evaluate
from renderpretrain.cli.pretrain import pretrain
from renderpretrain.cli.recipes import recipes
from renderpretrain.cli.render import render
from renderpretrain.cli.transfer import export, import_

app = typer.Typer(
    name="renderpretrain",
    help="Pre-train 3D perception encoders by neural rendering.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="An error is one line; --debug, with any verb, adds the traceback.",
)
app.command()(pretrain)
app.add_typer(recipes, name="recipes")
app.command()(render)
app.command("eval")(evaluate)
app.command()(export)
app.command("import")(import_)
app.command()(doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: What the user typed; ``sys.argv`` by default.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # DistributedDataParallel warns in every process that it looked for unused parameters and found none.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="renderpretrain")
    except Exception as error:
        if debug:
            raise
        typer.echo(f"error: {one_line(error)}", err=True)
        sys.exit(1)


def one_line(error: Exception) -> str:
    """What the user is told: our own messages as they are, others with their kind and a hint."""
    message = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return message or type(error).__name__
    return f"{type(error).__name__}: {message[:300]} (--debug shows the traceback)"
