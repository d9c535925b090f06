"""Rectangular low-rank sensing: ``y_i = <A_i, U* V*^T> + sigma g_i``, pruned by columns of the stacked factor.

``W = [U; V]`` (dim + columns, width) is trained on ``(1/n) ||A(U V^T) - y||^2 + lambda R(W)``: the penalty, the scores
and the threshold see the stacked columns ``[u_i; v_i]``. Everything else is the sensing system's. Derived: training
balances every column, ``||u_i|| = ||v_i||``, since at a stationary point ``lambda psi (||u||^2 - ||v||^2) = 0``.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.errors import BadInput
from gpsense.sensing.losses import Empirical
from gpsense.sensing.measurements import rectangular_measurements
from gpsense.sensing.stacked import product
from gpsense.sensing.stacked_losses import StackedPopulation, stacked_gram
from gpsense.sensing.truths import geometric_spectrum, low_rank_truth
from gpsense.systems._contract import Cost
from gpsense.systems.sensing import (
    GREEDY,
    Sensing,
    SensingInstance,
    SensingProblem,
    SensingSetting,
    SensingSpec,
    prune_key,
)


@dataclass(frozen=True)
class RectangularSpec(SensingSpec):
    """Static: as :class:`SensingSpec` for matrices (dim, columns); ``columns`` None means dim.

    ``measurements``: gaussian or population; ``method``: greedy_pruning alone.
    """

    columns: int | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """(dim, columns)."""
        return self.dim, self.dim if self.columns is None else self.columns


class RectangularProblem(SensingProblem):
    """One drawn problem: the loss and the stacked truth [U*; V*] (dim + columns, rank), with dim to part them."""

    dim: int = eqx.field(static=True, kw_only=True)


def sample_rectangular(spec: RectangularSpec, instance: SensingInstance, key: RandomKey) -> RectangularProblem:
    """Draw truth, measurements and noise; the same key gives the same draws at every noise level and rank.

    ``U* = P diag(sqrt(sigma_j))`` and ``V* = Q diag(sqrt(sigma_j))`` with uniform orthonormal frames P and Q; the
    instance's condition or spectrum is that of the singular values of ``M = U* V*^T``, its truth is stacked. Raises
    ValueError if the rank exceeds dim or columns.
    """
    left_key, right_key, map_key, noise_key = jax.random.split(key, 4)
    dtype = jnp.dtype(spec.dtype)
    dim, columns = spec.sides
    if instance.truth is not None:
        truth = jnp.asarray(instance.truth, dtype)
    else:
        spectrum = instance.spectrum
        if spectrum is None:
            spectrum = geometric_spectrum(spec.rank, instance.condition, dtype, instance.rank)
        spectrum = jnp.asarray(spectrum, dtype)
        truth = jnp.concatenate([low_rank_truth(left_key, dim, spectrum), low_rank_truth(right_key, columns, spectrum)])
    matrix, noise = product(truth, dim), jnp.asarray(instance.noise, dtype)
    if spec.measurements == "population":
        return RectangularProblem(StackedPopulation(spec.sides, matrix, noise**2), truth, prune_key(spec, key), dim=dim)
    measurements = rectangular_measurements(map_key, spec.n, dim, columns, dtype)
    values = measurements.forward(truth) + noise * jax.random.normal(noise_key, (spec.n,), dtype)
    if spec.form != "gram":
        return RectangularProblem(Empirical(measurements, values), truth, prune_key(spec, key), dim=dim)
    used = None if instance.n is None else jnp.arange(spec.n, dtype=dtype) < instance.n
    return RectangularProblem(stacked_gram(measurements, values, matrix, used), truth, prune_key(spec, key), dim=dim)


class Rectangular(Sensing):
    """The rectangular system behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "rectangular"
    Spec: ClassVar[type] = RectangularSpec
    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        "error": ("relative Frobenius error of U V^T: ||U V^T - M||_F / ||M||_F", "1"),
        "rank": ("columns kept by pruning", "columns"),
        "column_norms": ("stacked column norms ||[u_i; v_i]|| after training, largest first", "norm of [U; V]"),
        "margin": ("distance of the nearest stacked column norm to the threshold", "norm of [U; V]"),
    }

    def check(self, spec: Any) -> None:
        if spec.method != GREEDY:
            remedy = f"use {GREEDY}, or system sensing for the other methods"
            raise BadInput("train.method", f"{spec.method} is for symmetric matrices", remedy)
        if spec.measurements not in ("gaussian", "population"):
            remedy = "use gaussian or population"
            raise BadInput("problem.measurements", f"no rectangular ensemble {spec.measurements}", remedy)
        if spec.sides[1] < spec.rank:
            problem = f"{spec.sides[1]} is below rank {spec.rank}"
            raise BadInput("problem.columns", problem, "use at least rank columns")
        super().check(spec)

    def sample(self, spec: Any, instance: SensingInstance, key: RandomKey) -> RectangularProblem:
        return sample_rectangular(spec, instance, key)

    def start(self, spec: Any, setting: SensingSetting, key: RandomKey) -> Factor:
        return super().start(replace(spec, dim=sum(spec.sides)), setting, key)

    def error(self, problem: Any, params: Factor) -> Scalar:
        truth = product(problem.truth, problem.dim)
        return jnp.sqrt(jnp.sum((product(params, problem.dim) - truth) ** 2) / jnp.sum(truth**2))

    def packed(self, spec: Any) -> int:
        return spec.sides[0] * spec.sides[1]

    def flops(self, spec: Any) -> float:
        entries, factor_products = self.packed(spec), 6.0 * self.packed(spec) * spec.width
        if spec.measurements == "population":
            return factor_products
        return factor_products + (2.0 * entries**2 if spec.form == "gram" else 4.0 * spec.n * entries)

    def cost(self, spec: Any) -> Cost:
        number, entries = jnp.dtype(spec.dtype).itemsize, self.packed(spec)
        data, problem = spec.n * entries, spec.n * entries + spec.n
        if spec.measurements == "population":
            data, problem = 0, entries
        elif spec.form == "gram":
            problem = entries**2 + 2 * entries
        memories = {"gd": 0, "adam": 2}.get(spec.optimizer, 1) + (1 if spec.perturb else 0)
        factor = sum(spec.sides) * spec.width
        scratch = 3 * (entries + factor) + (0 if spec.form == "gram" else 3 * spec.n)
        return Cost(
            flops=self.flops(spec),
            problem_bytes=number * (problem + sum(spec.sides) * spec.rank),
            sample_bytes=number * 4 * (data + data * (spec.form == "gram")),
            cell_bytes=number * (scratch + (1 + memories) * factor),
            kept_bytes=number * 2 * (1 + memories) * factor,
        )
