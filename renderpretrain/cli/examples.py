"""One example for every verb, at the end of its ``--help``."""

import typer

EXAMPLES = {
    "pretrain": "pretrain unipad-lidar --steps 200 --out runs/first",
    "recipes list": "recipes list",
    "recipes show": "recipes show unipad-lidar --preset paper",
    "render": "render runs/first --points depth.ply",
    "report": "report runs/first runs/second --out both.html",
    "view": "view runs/first",
    "eval": "eval runs/first --probe linear",
    "export": "export runs/first --to openpcdet --out encoder.pth --verify",
    "import": "import second.pth --from openpcdet --out encoder.safetensors",
    "data inspect": "data inspect folder:recording",
    "data check": "data check folder:recording",
    "data synth": "data synth recording --scenes 10",
    "data prepare": "data prepare folder:recording streets --shards",
    "data maps": "data maps maps --teacher own:teacher --data folder:recording",
    "doctor": "doctor --json",
}
"""What comes after ``renderpretrain``, by the verb."""


def add_examples(app: typer.Typer, *before: str) -> None:
    """Give every verb of an application its example.

    Args:
        app: Its verbs are registered.
        before: Words that stand before its verbs.

    Raises:
        KeyError: If a verb has none.
    """
    for command in app.registered_commands:
        name = command.name or str(getattr(command.callback, "__name__", ""))
        command.epilog = f"Example: renderpretrain {EXAMPLES[' '.join((*before, name))]}"
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, *before, str(group.name))
