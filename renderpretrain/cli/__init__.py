"""The command line: thin flags over the package. Nothing heavy is imported before a verb needs it."""

from renderpretrain.cli.app import main

__all__ = ["main"]
