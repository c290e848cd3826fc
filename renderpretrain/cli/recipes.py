"""``renderpretrain recipes``: which recipes there are, and every setting of one."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from renderpretrain.cli import completing


class ListsByDefault(TyperGroup):
    """Without a verb it lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words of the command line, with the verb that is meant."""
        return super().parse_args(ctx, args or ["list"])


recipes = typer.Typer(help="Which recipes there are; without a verb, the list.", cls=ListsByDefault)


@recipes.command("list")
def list_recipes() -> None:
    """Print one line for every recipe."""
    from renderpretrain.recipes import RECIPES

    width = max(len(name) for name in RECIPES)
    for name, entry in RECIPES.items():
        typer.echo(f"{name:<{width}}  {entry.summary} Presets: {', '.join(entry.presets)}.")


@recipes.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(help="See `renderpretrain recipes list`.", autocompletion=completing.complete_recipe),
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="tiny, or the recipe's large one: paper, base.", autocompletion=completing.complete_preset
        ),
    ] = "tiny",
) -> None:
    """Every setting of a preset and where it comes from, as YAML, ready for --config."""
    from renderpretrain.recipes import RECIPES
    from renderpretrain.recipes.settings import sources_of
    from renderpretrain.runs.settings import as_tree, choose, write_commented_yaml

    entry = choose("recipe", name, RECIPES)
    config = choose(f"preset of {name}", preset, entry.presets)
    typer.echo(f"# {name}, preset {preset}")
    typer.echo(f"# {entry.summary}")
    typer.echo(f"# code: {entry.sources.code}")
    comments = sources_of(entry.sources, entry.presets, preset)
    typer.echo(write_commented_yaml(as_tree(config), comments), nl=False)
