"""``renderpretrain recipes``: which recipes there are, and every setting of one."""

from typing import Annotated

import typer

recipes = typer.Typer(help="Which recipes there are.", no_args_is_help=True)


@recipes.command("list")
def list_recipes() -> None:
    """One line per recipe."""
    from renderpretrain.recipes import RECIPES

    width = max(len(name) for name in RECIPES)
    for name, entry in RECIPES.items():
        typer.echo(f"{name:<{width}}  {entry.summary} Presets: {', '.join(entry.presets)}.")


@recipes.command("show")
def show(
    name: Annotated[str, typer.Argument(help="See `renderpretrain recipes list`.")],
    preset: Annotated[str, typer.Option(help="tiny or paper.")] = "tiny",
) -> None:
    """Every setting of a preset as YAML, ready for --config."""
    from renderpretrain.cli.settings import as_tree, choose, write_yaml
    from renderpretrain.recipes import RECIPES

    entry = choose("recipe", name, RECIPES)
    typer.echo(f"# {name}, preset {preset}. {entry.summary}")
    typer.echo(write_yaml(as_tree(choose(f"preset of {name}", preset, entry.presets))), nl=False)
