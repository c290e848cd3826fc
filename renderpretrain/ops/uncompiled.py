"""What ``torch.compile`` calls, and does not look inside."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def uncompiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Mark a function whose results have sizes that only the numbers tell, such as how many voxels there are.

    A graph ends where it is called, and the next one begins behind it. Without the mark the compiler would
    end one wherever such a size is found, follow the calls into the kernels, and compile the pieces again for
    every module and every number of voxels.

    Args:
        function: Runs as it is, with all that it calls.
    """
    marked: Callable[Arguments, Result] = torch.compiler.disable(function)
    return marked
