"""Low-rank matrix sensing with column-wise (structured) pruning (arXiv 2303.11453).

``y_i = <A_i, U* U*^T> + sigma g_i``; an over-parameterised factor U (dim x width) is trained on
``(1/n) ||A(U U^T) - y||^2 + lambda R(U)``, columns of norm at most the threshold are deleted, the others are
fine-tuned on the loss alone.
"""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense._types import Factor, Integer, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field
from gpsense.sensing.losses import Empirical, Objective, Population, gram_objective, split_objective
from gpsense.sensing.measurements import ENSEMBLES, Ensemble
from gpsense.sensing.symmetric import svec
from gpsense.systems._column_fields import ColumnSetting, TruthData, check_truth, column_measures, draw_truth
from gpsense.systems._columns import ColumnSystem
from gpsense.systems._contract import Measure

POPULATION = "population"  # the expected loss of isotropic measurements
SOURCES: ChainMap[str, Any] = ChainMap({POPULATION: None}, ENSEMBLES)


class SensingProblem(eqx.Module):
    """One drawn problem: the loss, the truth U* (dim, rank), and the key of a random pruning rule."""

    objective: Objective
    truth: Factor
    key: RandomKey | None = None


def symmetric_error(truth: Factor, factor: Factor) -> Scalar:
    """The error ``||U U^T - M||_F / ||M||_F`` of a factor U, where ``M = U* U*^T`` and U* is the truth."""
    matrix = truth @ truth.T
    return jnp.sqrt(jnp.sum((factor @ factor.T - matrix) ** 2) / jnp.sum(matrix**2))


def columns_of(truth: Factor) -> Integer:
    """The rank of a truth: its number of non-zero columns, as a traced rank below its bound is padded with zeros."""
    return jnp.sum(jnp.any(truth != 0, axis=0))


@final
@dataclass(frozen=True, kw_only=True)
class Sensing(ColumnSystem[TruthData, SensingProblem]):
    """Low-rank matrix sensing with column-wise (structured) pruning (arXiv 2303.11453).

    >>> system = gpsense.Sensing(dim=8, rank=2, n=100)
    >>> problem = jax.eval_shape(system.draw, system.Data(noise=0.1), jax.random.key(0))
    >>> problem.objective.values.shape, problem.truth.shape
    ((100,), (8, 2))
    """

    name: ClassVar[str] = "sensing"
    Data: ClassVar[type[TruthData]] = TruthData
    Setting: ClassVar[type[ColumnSetting]] = ColumnSetting
    measures: ClassVar[Mapping[str, Measure]] = column_measures(
        "relative Frobenius error of U U^T: ||U U^T - M||_F / ||M||_F",
        "columns",
        "column norms ||U e_i|| after training, largest first",
        "distance of the nearest column norm to the threshold; other rules: smallest kept minus largest deleted",
        "units of U",
    )

    splits: ClassVar[bool] = True

    measurements: Annotated[
        str,
        Field("problem", "random measurement matrices; population: expected loss, n ignored", choices=SOURCES),
    ] = "gaussian"
    reference_rank: Annotated[
        int | None,
        Field(
            "problem",
            "measure errors against the truth's best approximation of this rank (null: the truth)",
            at_least=1,
        ),
    ] = None

    @property
    def ensemble(self) -> Ensemble | None:
        return SOURCES[self.measurements]

    def check(self) -> None:
        super().check()
        if self.reference_rank is not None and self.reference_rank > self.rank:
            wrong = f"{self.reference_rank} exceeds rank {self.rank}"
            raise BadInput("reference_rank", wrong, "use at most rank, or leave it out")

    def check_data(self, data: TruthData) -> None:
        check_truth(self.rows, self.rank, data)

    def describe(self) -> str:
        return f"{super().describe()}, {self.measurements}"

    def draw(self, data: TruthData, key: RandomKey) -> SensingProblem:
        """Draw truth, measurements and noise; the same key gives the same draws at every noise level and rank.

        The Gram form is centred on the truth, so that small errors are not lost to cancellation in float32.
        """
        truth_key, map_key, noise_key = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)
        truth = draw_truth(truth_key, self.dim, self.rank, data, dtype)
        noise = jnp.asarray(data.noise, dtype)
        if self.ensemble is None:
            return SensingProblem(Population(truth @ truth.T, noise**2), truth, self.prune_key(key))
        measurements = self.ensemble.draw(map_key, self.n, self.dim, dtype)
        values = measurements.forward(truth) + noise * jax.random.normal(noise_key, (self.n,), dtype)
        if self.form != "gram":
            return SensingProblem(Empirical(measurements, values), truth, self.prune_key(key))
        used = None if data.n is None else jnp.arange(self.n, dtype=dtype) < data.n
        objective = split_objective if self.baseline is not None and self.baseline.holds_out else gram_objective
        centred = objective(measurements, values, svec(truth @ truth.T), used)
        return SensingProblem(centred, truth, self.prune_key(key))

    def error(self, problem: SensingProblem, factor: Factor) -> Scalar:
        if self.reference_rank is None:
            return symmetric_error(problem.truth, factor)
        longest = jnp.argsort(-jnp.sum(problem.truth**2, axis=0))[: self.reference_rank]
        return symmetric_error(problem.truth[:, longest], factor)

    def known_rank(self, problem: SensingProblem) -> ScalarLike | Integer:
        return columns_of(problem.truth)
