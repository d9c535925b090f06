"""Rectangular low-rank sensing ``y_i = <A_i, U* V*^T> + sigma g_i``; columns of the stacked factor are pruned.

``W = [U; V]`` (dim + columns, width) is trained on ``(1/n) ||A(U V^T) - y||^2 + lambda R(W)``: the penalty, the norms
and the threshold are those of the stacked columns ``w_i = [u_i; v_i]``. Derived: training balances every column,
``||u_i|| = ||v_i||``, since ``lambda psi (||u_i||^2 - ||v_i||^2) = 0`` at a stationary point, where ``psi w_i`` is the
gradient of R in w_i.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense._types import Factor, Integer, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field
from gpsense.sensing.losses import Empirical, Objective
from gpsense.sensing.measurements import Ensemble, rectangular_measurements
from gpsense.sensing.stacked import product
from gpsense.sensing.stacked_losses import StackedPopulation, stacked_gram
from gpsense.sensing.truths import low_rank_truth
from gpsense.systems._column_fields import ColumnSetting, TruthData, check_truth, column_measures, spectrum_of
from gpsense.systems._columns import GREEDY, ColumnSystem
from gpsense.systems._contract import Measure
from gpsense.systems.sensing import POPULATION, columns_of

SOURCES = ("gaussian", POPULATION)


class RectangularProblem(eqx.Module):
    """One drawn problem: the loss, the stacked truth [U*; V*] (dim + columns, rank), and dim, the rows of U*."""

    objective: Objective
    truth: Factor
    key: RandomKey | None = None
    dim: int = eqx.field(static=True, kw_only=True)


@final
@dataclass(frozen=True, kw_only=True)
class Rectangular(ColumnSystem[TruthData, RectangularProblem]):
    """Sensing of a rectangular low-rank matrix U V^T, with column-wise (structured) pruning of the factor [U; V].

    >>> system = gpsense.Rectangular(dim=8, columns=6, rank=2, n=200)
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.truth.shape
    (14, 2)
    """

    name: ClassVar[str] = "rectangular"
    Data: ClassVar[type[TruthData]] = TruthData
    Setting: ClassVar[type[ColumnSetting]] = ColumnSetting
    measures: ClassVar[Mapping[str, Measure]] = column_measures(
        "relative Frobenius error of U V^T: ||U V^T - M||_F / ||M||_F",
        "columns",
        "stacked column norms ||[u_i; v_i]|| after training, largest first",
        "distance of the nearest stacked column norm to the threshold",
        "units of U and V",
    )

    measurements: Annotated[
        str,
        Field("problem", "gaussian matrices, or population (expected loss, n ignored)", choices=SOURCES),
    ] = "gaussian"
    method: Annotated[
        str, Field("train", "greedy_pruning only; the baselines are for symmetric matrices", choices=(GREEDY,))
    ] = GREEDY
    columns: Annotated[
        int | None, Field("problem", "columns of the matrices; null: dim", at_least=1, label="columns of the matrix")
    ] = None

    @property
    def sides(self) -> tuple[int, int]:
        """The sides (dim, columns) of the matrix."""
        return self.dim, self.dim if self.columns is None else self.columns

    @property
    def packed(self) -> int:
        return self.sides[0] * self.sides[1]

    @property
    def rows(self) -> int:
        return sum(self.sides)

    @property
    def entries(self) -> int:
        return self.packed

    @property
    def factor_products(self) -> float:
        return 6.0 * self.packed * self.full_width

    @property
    def ensemble(self) -> Ensemble | None:
        return None if self.measurements == POPULATION else self._blocks

    @property
    def _blocks(self) -> Ensemble:
        """The ensemble of Gaussian measurement matrices A_i (dim, columns)."""
        dim, columns = self.sides
        return Ensemble(
            lambda key, n, side, dtype: rectangular_measurements(key, n, dim, columns, dtype),
            numbers=lambda n, side: n * dim * columns,
            flops=lambda n, side, width: self.factor_products + 4.0 * n * dim * columns,
        )

    def check(self) -> None:
        if self.sides[1] < self.rank:
            raise BadInput("columns", f"{self.sides[1]} is below rank {self.rank}", f"use at least {self.rank}")
        super().check()

    def check_data(self, data: TruthData) -> None:
        check_truth(self.rows, self.rank, data)

    def describe(self) -> str:
        return f"{super().describe()}, {self.measurements}"

    def draw(self, data: TruthData, key: RandomKey) -> RectangularProblem:
        """Draw truth, measurements and noise; the same key gives the same draws at every noise level and rank.

        ``U* = P diag(sqrt(sigma_j))`` and ``V* = Q diag(sqrt(sigma_j))`` with uniform orthonormal frames P and Q; the
        condition and spectrum of ``data`` are those of the singular values sigma_j of ``M = U* V*^T``; ``data.truth``
        is [U*; V*].
        """
        left_key, right_key, map_key, noise_key = jax.random.split(key, 4)
        dtype = jnp.dtype(self.dtype)
        dim, columns = self.sides
        if data.truth is not None:
            truth = jnp.asarray(data.truth, dtype)
        else:
            spectrum = spectrum_of(self.rank, data, dtype)
            left, right = low_rank_truth(left_key, dim, spectrum), low_rank_truth(right_key, columns, spectrum)
            truth = jnp.concatenate([left, right])
        matrix, noise, prune_key = product(truth, dim), jnp.asarray(data.noise, dtype), self.prune_key(key)
        if self.ensemble is None:
            return RectangularProblem(StackedPopulation(self.sides, matrix, noise**2), truth, prune_key, dim=dim)
        measurements = rectangular_measurements(map_key, self.n, dim, columns, dtype)
        values = measurements.forward(truth) + noise * jax.random.normal(noise_key, (self.n,), dtype)
        if self.form != "gram":
            return RectangularProblem(Empirical(measurements, values), truth, prune_key, dim=dim)
        used = None if data.n is None else jnp.arange(self.n, dtype=dtype) < data.n
        return RectangularProblem(stacked_gram(measurements, values, matrix, used), truth, prune_key, dim=dim)

    def error(self, problem: RectangularProblem, factor: Factor) -> Scalar:
        truth = product(problem.truth, problem.dim)
        return jnp.sqrt(jnp.sum((product(factor, problem.dim) - truth) ** 2) / jnp.sum(truth**2))

    def known_rank(self, problem: RectangularProblem) -> ScalarLike | Integer:
        return columns_of(problem.truth)
