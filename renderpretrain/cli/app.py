"""The verbs, and how they end: 0 done, 1 the user's error in one line, 2 usage."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from renderpretrain import __version__
from renderpretrain.cli.data import data
from renderpretrain.cli.doctor import doctor
from renderpretrain.cli.evaluate import evaluate
from renderpretrain.cli.examples import add_examples
from renderpretrain.cli.pretrain import pretrain
from renderpretrain.cli.recipes import recipes
from renderpretrain.cli.render import render
from renderpretrain.cli.report import report
from renderpretrain.cli.transfer import export, import_
from renderpretrain.cli.view import view
from renderpretrain.terminal import guard_terminal, printable


class Verbs(TyperGroup):
    """The verbs; what a user typed wrong is repeated to him without its control characters."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options that stand before the verb."""
        with _printable_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the verb's own options, and do it."""
        with _printable_errors():
            return super().invoke(ctx)


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Errors of usage are drawn by rich, which needs printable words."""
    try:
        yield
    except Exception as error:
        if isinstance(getattr(error, "message", None), str):
            error.message = printable(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="renderpretrain",
    cls=Verbs,
    help="Pre-train 3D perception encoders by neural rendering.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="An error is one line; --debug, with any verb, adds the traceback.",
)


def _print_version(asked: bool | None) -> None:
    """Say which version this is, and stop."""
    if asked:
        typer.echo(f"renderpretrain {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = None,
) -> None:
    """Pre-train 3D perception encoders by neural rendering."""


app.command()(pretrain)
app.add_typer(recipes, name="recipes")
app.command()(render)
app.command()(report)
app.command()(view)
app.command("eval")(evaluate)
app.command()(export)
app.command("import")(import_)
app.add_typer(data, name="data")
app.command()(doctor)
add_examples(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: What the user typed; ``sys.argv`` by default.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    guard_terminal()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # DistributedDataParallel warns in every process that it looked for unused parameters and found none.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="renderpretrain")
    except Exception as error:
        if debug:
            raise
        typer.echo(f"error: {printable(one_line(error))}", err=True)
        sys.exit(1)


def one_line(error: Exception) -> str:
    """What the user is told: our own messages as they are, others with their kind and a hint."""
    message = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return message or type(error).__name__
    return f"{type(error).__name__}: {message[:300]} (--debug shows the traceback)"
