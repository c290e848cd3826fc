"""``renderpretrain export`` and ``renderpretrain import``: weights out to a host, and in from one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderpretrain.cli import completing

if TYPE_CHECKING:
    from renderpretrain.transfer import TransferReport

Flag = typer.Option

HOSTS = ", ".join(completing.HOSTS)
SYSTEMS = "unipad, ponderv2, nsmae, uniscene"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or a file that export or import wrote.",
            autocompletion=completing.complete_weights,
        ),
    ],
    to: Annotated[
        str, Flag(help=f"{HOSTS}, safetensors or onnx.", autocompletion=completing.complete_format)
    ],
    out: Annotated[Path, Flag(help="The file to write.")],
    host_ckpt: Annotated[
        Path | None, Flag(help="A checkpoint of your host's model, to compare every key and shape with.")
    ] = None,
    prefix: Annotated[
        str | None, Flag(help="Where the encoder lies in the host's model, if not as usual.")
    ] = None,
    part: Annotated[str | None, Flag(help="Only this encoder, or several: point_encoder+point_neck.")] = None,
    drop_column: Annotated[
        list[str] | None,
        Flag(help="Leave out a column of points, e.g. lag, that was 0 in training."),
    ] = None,
    min_match: Annotated[float, Flag(help="Least share of the parameters.", min=0, max=1)] = 0.95,
    verify: Annotated[bool, Flag("--verify", help="Compare both sides' outputs, from the file.")] = False,
    as_json: Annotated[bool, Flag("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write a run's encoders for the framework where they are fine-tuned, and report on every key."""
    from renderpretrain.transfer import ExportOptions
    from renderpretrain.verbs import export as export_run

    options = ExportOptions(host_ckpt, prefix, part, min_match, verify, tuple(drop_column or ()))
    done = export_run(run, to=to, out=out, options=options)
    if as_json:
        _print_json(done.report, file=str(out), snippet=done.snippet)
    else:
        _print(done.report)
        typer.echo(f"\n{done.snippet}\n{out}")


def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint.")],
    from_: Annotated[str, Flag("--from", help=f"{SYSTEMS}, {HOSTS}.")],
    out: Annotated[Path, Flag(help="The .safetensors file to write.")],
    recipe: Annotated[
        str | None, Flag(help="Take what this recipe has, in its sizes; by default all encoders in the file.")
    ] = None,
    preset: Annotated[str, Flag(help="Of the recipe.")] = "paper",
    prefix: Annotated[str | None, Flag(help="Where the encoder lies in the file, if not as usual.")] = None,
    min_match: Annotated[float, Flag(help="Least share of the parameters.", min=0, max=1)] = 0.95,
    allow_nan: Annotated[
        bool, Flag("--allow-nan", help="Also take weights that are NaN or infinite.")
    ] = False,
    as_json: Annotated[bool, Flag("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Bring published encoders in: a file for load_encoder, `pretrain --init` and image.weights."""
    from renderpretrain.transfer import ImportOptions, import_encoders

    options = ImportOptions(recipe, preset, prefix=prefix, min_match=min_match, allow_nan=allow_nan)
    report = import_encoders(file, from_, out, options).report
    if as_json:
        _print_json(report, file=str(out))
    else:
        _print(report)
        typer.echo(out)


def _print(report: "TransferReport") -> None:
    """The report as a table."""
    from rich.console import Console

    from renderpretrain.transfer import print_report

    print_report(report, Console())


def _print_json(report: "TransferReport", **beside: Any) -> None:
    """The report as one object."""
    typer.echo(json.dumps({**report.as_tree(), **beside}, indent=2))
