"""The hosts' image networks said again, from the numbers in a file alone."""

from collections.abc import Callable
from typing import Any

IMAGE_CHECKS: dict[str, Callable[..., Any]] = {}
