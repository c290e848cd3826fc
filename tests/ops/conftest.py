"""What the tests of operators share: a number of threads, and showing PyTorch that an operator is sound."""

import pytest
import torch


@pytest.fixture
def threads():
    """Sets torch's number of threads, and puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _exact_convolutions(monkeypatch):
    """A card multiplies float32 as it is, not with 10 bits of mantissa, PyTorch's standard."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def check_operator():
    """``check_operator(name, arguments, differentiable=True)``, on ``torch.ops.renderpretrain``.

    Runs :func:`torch.library.opcheck` on the arguments as they are and, if differentiable, once more with
    gradients asked for every floating tensor. What is traced has symbols for sizes, but not what is traced of
    ``*_backward`` with its gradient: that is the second derivative, hundreds of PyTorch's own operations,
    whose symbols take seconds and show nothing of ours. Traced as it is, its own sizes are symbols.
    """

    def check(name, arguments, differentiable=True):
        operator = getattr(torch.ops.renderpretrain, name).default
        torch.library.opcheck(operator, arguments)
        if differentiable:
            sizes = "static" if name.endswith("_backward") else "dynamic"
            torch.library.opcheck(
                operator,
                [_with_gradient(value) for value in arguments],
                test_utils=(
                    "test_autograd_registration",
                    "test_faketensor",
                    f"test_aot_dispatch_{sizes}",
                ),
            )

    return check


def _with_gradient(value):
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value
