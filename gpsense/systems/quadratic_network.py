"""Two-layer networks with quadratic activation, pruned by neurons (arXiv 2303.11453).

``h(x) = b + sum_j <u_j, x>^2`` for ``x ~ N(0, I_d)``, ``y = h*(x) + sigma g``: sensing with ``A_i = x_i x_i^T``, a
column of U a hidden neuron. Everything but the loss is :mod:`gpsense.systems.sensing`'s.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool

from gpsense._types import RandomKey, ScalarLike, Values
from gpsense.errors import BadInput
from gpsense.sensing.losses import Empirical, gram_objective
from gpsense.sensing.measurements import centred_measurements
from gpsense.sensing.symmetric import svec
from gpsense.systems._contract import Cost
from gpsense.systems.sensing import Sensing, SensingInstance, SensingProblem, SensingSpec, sample_sensing

BIASES = ("free", "none")


@dataclass(frozen=True)
class QuadraticNetworkSpec(SensingSpec):
    """Static: as :class:`SensingSpec`, with ``measurements`` rank_one, and whether the output has a ``bias``.

    ``free``: the bias is at its best value for every U, so that the expected loss of ``D = U U^T - M`` is
    ``2 ||D||_F^2 + sigma^2``; ``none``: no bias, ``2 ||D||_F^2 + (tr D)^2 + sigma^2``.
    """

    measurements: str = "rank_one"
    bias: str = "free"


class QuadraticNetworkInstance(SensingInstance):
    """Traced numbers that change the data: as :class:`SensingInstance`, and ``truncation``.

    Samples whose y is more than ``truncation`` standard deviations from its mean are left out of the loss; None: none.
    """

    truncation: ScalarLike | None = None


def within(values: Values, used: Bool[Array, " n"], truncation: ScalarLike) -> Bool[Array, " n"]:
    """Which used values (n,) lie within ``truncation`` standard deviations of their mean, both over the used ones."""
    weights = used.astype(values.dtype)
    weights = weights / jnp.sum(weights)
    gap = values - jnp.sum(weights * values)
    return used & (jnp.abs(gap) <= truncation * jnp.sqrt(jnp.sum(weights * gap**2)))


def sample_quadratic_network(
    spec: QuadraticNetworkSpec, instance: QuadraticNetworkInstance, key: RandomKey
) -> SensingProblem:
    """Draw truth, inputs and noise as :func:`sample_sensing`; the loss over the samples that count, bias eliminated."""
    drawn = sample_sensing(replace(spec, form="direct"), instance, key)
    assert isinstance(drawn.objective, Empirical)
    measurements, values = drawn.objective.measurements, drawn.objective.values
    n = spec.n if instance.n is None else instance.n
    used = jnp.arange(spec.n, dtype=values.dtype) < n
    if instance.truncation is not None:
        used = within(values, used, instance.truncation)
    measurements, values = centred_measurements(measurements, values, used, spec.bias == "free")
    if spec.form != "gram":
        return SensingProblem(Empirical(measurements, values), drawn.truth, drawn.key)
    gram = gram_objective(measurements, values, svec(drawn.truth @ drawn.truth.T))
    return SensingProblem(gram, drawn.truth, drawn.key)


class QuadraticNetwork(Sensing):
    """Networks with quadratic activation behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "quadratic_network"
    Spec: ClassVar[type] = QuadraticNetworkSpec
    Instance: ClassVar[type] = QuadraticNetworkInstance
    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        "error": ("relative Frobenius error of U U^T: ||U U^T - M||_F / ||M||_F", "1"),
        "rank": ("neurons kept by pruning", "neurons"),
        "column_norms": ("weight norms ||u_j|| of the neurons after training, largest first", "norm of U"),
        "margin": ("distance of the nearest weight norm to the threshold", "norm of U"),
    }

    def check(self, spec: Any) -> None:
        super().check(spec)
        if spec.measurements != "rank_one":
            raise BadInput("problem.measurements", f"{spec.measurements} makes no network", "use rank_one")
        if spec.bias not in BIASES:
            raise BadInput("problem.bias", f"{spec.bias!r} is not known", f"use one of {', '.join(BIASES)}")

    def cost(self, spec: Any) -> Cost:
        """Sensing's, and in direct form the scales of the samples and the mean of the map."""
        cost = super().cost(spec)
        extra = jnp.dtype(spec.dtype).itemsize * (spec.n + spec.dim**2) * (spec.form != "gram")
        return replace(cost, problem_bytes=cost.problem_bytes + extra)

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return sample_quadratic_network(spec, instance, key)
