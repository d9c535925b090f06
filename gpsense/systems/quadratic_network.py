"""Two-layer networks with quadratic activation, pruned by neurons (arXiv 2303.11453).

``h(x) = b + sum_j <u_j, x>^2`` is fitted to ``y = h*(x) + sigma g`` with ``x ~ N(0, I_d)``: this is matrix sensing with
``A_i = x_i x_i^T``, where column u_j of U holds the weights of hidden neuron j.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from gpsense._types import Factor, Integer, RandomKey, Scalar, ScalarLike, Values
from gpsense.fields import Field
from gpsense.sensing.losses import Empirical, gram_objective
from gpsense.sensing.measurements import ENSEMBLES, Ensemble, centred_measurements
from gpsense.sensing.symmetric import svec
from gpsense.systems._column_fields import ColumnSetting, TruthData, check_truth, column_measures, draw_truth
from gpsense.systems._columns import ColumnSystem
from gpsense.systems._contract import Cost, Measure
from gpsense.systems.sensing import SensingProblem, columns_of, symmetric_error

BIASES = ("free", "none")
INPUTS = ENSEMBLES["rank_one"]


class QuadraticNetworkData(TruthData):
    """Traced numbers that change the data: those of :class:`TruthData`, and ``truncation``.

    Samples whose y is more than ``truncation`` standard deviations from its mean are left out of the loss (None: all
    are in it).
    """

    truncation: Annotated[
        ScalarLike | None,
        Field(
            "problem",
            "drop samples with |y - mean| above this many standard deviations of y",
            above=0,
            label="truncation [standard deviations of y]",
        ),
    ] = None


def within(values: Values, used: Bool[Array, " n"], truncation: ScalarLike) -> Bool[Array, " n"]:
    """Whether each value (n,) is used and within ``truncation`` standard deviations of the mean of the used values."""
    weights = used.astype(values.dtype)
    weights = weights / jnp.sum(weights)
    gap = values - jnp.sum(weights * values)
    return used & (jnp.abs(gap) <= truncation * jnp.sqrt(jnp.sum(weights * gap**2)))


def network_cost(system: ColumnSystem, cost: Cost, n: int) -> Cost:  # pyright: ignore[reportMissingTypeArgument]
    """The ``cost`` plus, in direct form, that of the weights of n samples and of the mean measurement."""
    extra = jnp.dtype(system.dtype).itemsize * (n + system.dim**2) * (system.form != "gram")
    return replace(cost, problem_bytes=cost.problem_bytes + extra)


@final
@dataclass(frozen=True, kw_only=True)
class QuadraticNetwork(ColumnSystem[QuadraticNetworkData, SensingProblem]):
    """Two-layer networks with quadratic activation, pruned by neurons (arXiv 2303.11453).

    >>> system = gpsense.QuadraticNetwork(dim=8, rank=2, n=200)
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.truth.shape
    (8, 2)
    """

    name: ClassVar[str] = "quadratic_network"
    Data: ClassVar[type[QuadraticNetworkData]] = QuadraticNetworkData
    Setting: ClassVar[type[ColumnSetting]] = ColumnSetting
    measures: ClassVar[Mapping[str, Measure]] = column_measures(
        "relative Frobenius error of U U^T: ||U U^T - M||_F / ||M||_F",
        "neurons",
        "weight norms ||u_j|| of the neurons after training, largest first",
        "distance of the nearest weight norm to the threshold",
        "units of U",
    )

    bias: Annotated[
        str,
        Field(
            "problem",
            "output bias: free (optimal: expected loss 2 ||D||_F^2, D = U U^T - M) or none (adds (tr D)^2 to it)",
            choices=BIASES,
        ),
    ] = "free"

    @property
    def ensemble(self) -> Ensemble:
        return INPUTS

    def check_data(self, data: QuadraticNetworkData) -> None:
        check_truth(self.rows, self.rank, data)

    def cost(self) -> Cost:
        return network_cost(self, super().cost(), self.n)

    def draw(self, data: QuadraticNetworkData, key: RandomKey) -> SensingProblem:
        """Draw truth, inputs and noise as sensing does.

        The loss leaves out samples beyond ``n`` and ``truncation`` of ``data``; if bias is free, b minimises it.
        """
        truth_key, map_key, noise_key = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)
        truth = draw_truth(truth_key, self.dim, self.rank, data, dtype)
        measurements = INPUTS.draw(map_key, self.n, self.dim, dtype)
        noise = jnp.asarray(data.noise, dtype) * jax.random.normal(noise_key, (self.n,), dtype)
        values = measurements.forward(truth) + noise
        n = self.n if data.n is None else data.n
        used = jnp.arange(self.n, dtype=values.dtype) < n
        if data.truncation is not None:
            used = within(values, used, data.truncation)
        measurements, values = centred_measurements(measurements, values, used, self.bias == "free")
        if self.form != "gram":
            return SensingProblem(Empirical(measurements, values), truth, self.prune_key(key))
        gram = gram_objective(measurements, values, svec(truth @ truth.T))
        return SensingProblem(gram, truth, self.prune_key(key))

    def error(self, problem: SensingProblem, factor: Factor) -> Scalar:
        return symmetric_error(problem.truth, factor)

    def known_rank(self, problem: SensingProblem) -> ScalarLike | Integer:
        return columns_of(problem.truth)
