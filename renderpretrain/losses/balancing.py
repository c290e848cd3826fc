"""One loss of several terms: how much each counts, and which part of a model each of them moves."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Terms = Mapping[str, Float[Tensor, ""]]
"""Loss terms by name; their sum is the loss."""


def weigh(terms: Terms, weights: Mapping[str, float]) -> dict[str, Float[Tensor, ""]]:
    """Terms times fixed weights; a term of weight zero is left out.

    Raises:
        ValueError: If the weights do not name exactly the terms.
    """
    _check_names(terms, weights)
    return {name: weights[name] * term for name, term in terms.items() if weights[name]}


class UncertaintyWeights(nn.Module):
    r"""Terms weighted by a learned uncertainty of each.

    .. math:: L = \sum_i \frac{1}{2 \sigma_i^2} L_i + \log \sigma_i

    Kendall et al. 2018 (https://arxiv.org/abs/1705.07115), equation 7: the likelihood of Gaussian errors,
    whose best ``sigma_i^2`` is the mean of ``L_i``, so that the terms end up equally large. The sum may be
    negative. A term that stays at zero, for want of anything valid, gains weight without end: leave it out.
    The parameters belong to the optimiser of the model, without weight decay.

    Args:
        names: The terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    def weights(self) -> Float[Tensor, " T"]:
        """What each term is multiplied with, ``1 / (2 sigma^2)``, in the order of the names."""
        return 0.5 * torch.exp(-self.log_variances)

    def forward(self, terms: Terms) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each with its ``log sigma``; their sum is the loss.

        Raises:
            ValueError: If the terms are not those of the constructor.
        """
        _check_names(terms, self.names)
        weights = self.weights()
        return {
            name: weights[i] * terms[name] + 0.5 * self.log_variances[i] for i, name in enumerate(self.names)
        }


class GradNorm(nn.Module):
    r"""Terms weighted so that each pulls at shared parameters with comparable strength.

    .. math:: L_\text{grad} = \sum_i |G_i - \bar G\, r_i^\alpha| / \bar G, \quad
        G_i = \| \nabla_W w_i L_i \|, \quad r_i = \frac{L_i / L_i(0)}{\text{mean}_j\, L_j / L_j(0)}

    Chen et al. 2018 (https://arxiv.org/abs/1711.02257), equations 1 and 2. A term that has improved less than
    the others pulls harder. The weights are positive and sum to the number of terms. Differs from the paper
    in learning their logarithms, and in the division by the mean norm, so that the speed of learning does not
    depend on the scale of the losses; the paper's weights can turn negative.

    The weights' parameters belong to an optimiser, without weight decay (the paper: Adam, 0.025). The first
    losses are part of the state, so that an interrupted run goes on with them. Every call differentiates each
    term once more; the norms are those of this process's batch.

    Args:
        names: The terms.
        alpha: How strongly slow terms are preferred; 0 makes all norms equal.
    """

    initial: Tensor

    def __init__(self, names: Sequence[str], *, alpha: int | float = 1.5) -> None:
        super().__init__()
        self.names = tuple(names)
        self.alpha = alpha
        self.log_weights = nn.Parameter(torch.zeros(len(self.names)))
        self.register_buffer("initial", torch.zeros(len(self.names)))

    def weights(self) -> Float[Tensor, " T"]:
        """Positive weights in the order of the names; they sum to the number of terms."""
        return self.log_weights.softmax(0) * len(self.names)

    def forward(self, terms: Terms, shared: Iterable[nn.Parameter]) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, and ``gradnorm``, which moves only the weights; their sum is the loss.

        Its value tells nothing about the model and is best left out of curves.

        Args:
            terms: With their graph, which is kept.
            shared: Parameters that all terms pull at, such as the last layer they have in common.

        Raises:
            ValueError: If the terms are not those of the constructor, or no shared parameter learns.
        """
        _check_names(terms, self.names)
        shared = [parameter for parameter in shared if parameter.requires_grad]
        if not shared:
            raise ValueError("shared: expected at least one parameter that requires a gradient, got none")
        losses = torch.stack([terms[name].detach().float() for name in self.names])
        by_term = gradient_norms({name: terms[name] for name in self.names}, {"shared": shared})
        norms = torch.stack([by_term[f"{name}/shared"] for name in self.names])
        with torch.no_grad():
            self.initial.copy_(torch.where(self.initial > 0, self.initial, losses))
        weights = self.weights()
        fixed = weights.detach()
        weighted_terms = {name: fixed[i] * terms[name] for i, name in enumerate(self.names)}
        return weighted_terms | {"gradnorm": self._imbalance(weights, norms, losses)}

    def _imbalance(self, weights: Tensor, norms: Tensor, losses: Tensor) -> Tensor:
        """How far the norms are from where they should be; its gradient reaches the weights alone."""
        progress = losses / self.initial.clamp(min=1e-12)
        rate = progress / progress.mean().clamp(min=1e-12)
        sizes = weights * norms
        mean = sizes.detach().mean()
        return ((sizes - mean * rate**self.alpha).abs() / mean.clamp(min=1e-12)).sum()


def gradient_norms(
    terms: Terms, groups: Mapping[str, Iterable[nn.Parameter]]
) -> dict[str, Float[Tensor, ""]]:
    """How strongly each term pulls at each part of a model: which modality starves, and why.

    Nothing is added to the parameters' gradients and the graph is kept, so this goes between a forward and
    its backward pass; it costs a backward pass per term, which every hundredth step can afford. The terms
    should carry their weights already.

    Args:
        terms: Loss terms with their graph.
        groups: Parameters by name, for instance those of each modality's encoder:
            ``{name: part.parameters() for name, part in recipe.encoders().items()}``.

    Returns:
        The Euclidean norm of every term's gradient on every group, ``{"term/group": norm}``; 0 where a term
        does not depend on a group. Detached, in float32, on the terms' device.
    """
    lists = {name: [p for p in parameters if p.requires_grad] for name, parameters in groups.items()}
    every = [p for parameters in lists.values() for p in parameters]
    norms = {}
    for term, loss in terms.items():
        if not loss.requires_grad or not every:
            gradients: Sequence[Tensor | None] = [None] * len(every)
        else:
            gradients = torch.autograd.grad(loss, every, retain_graph=True, allow_unused=True)
        rest = iter(gradients)
        for group, parameters in lists.items():
            found = [g for g in (next(rest) for _ in parameters) if g is not None]
            squares = [g.detach().float().square().sum() for g in found]
            norms[f"{term}/{group}"] = sum(squares, loss.new_zeros((), dtype=torch.float32)).sqrt()
    return norms


def _check_names(terms: Terms, names: Iterable[str]) -> None:
    """Raise unless the terms are the named ones."""
    if set(terms) != set(names):
        raise ValueError(f"terms: expected {sorted(names)}, got {sorted(terms)}")
