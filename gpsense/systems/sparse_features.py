"""Sparse single- and multi-index models, pruned by input coordinate (arXiv 2406.08658).

``y = sigma*(V^T x) + noise e``, x ~ N(0, I_dim), V (dim, r) with few rows.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.pruning import inputs
from gpsense.sparse import learner, samples
from gpsense.sparse.directions import SPREADS, draw_directions
from gpsense.sparse.hermite import link
from gpsense.sparse.samples import GaussianSamples
from gpsense.systems._coordinates import (
    CoordinatesProblem,
    CoordinatesSetting,
    CoordinatesSpec,
    CoordinateSystem,
    PrunedCoordinates,
)

FEWEST = 100  # samples to test on


@dataclass(frozen=True)
class SparseFeaturesSpec(CoordinatesSpec):
    """Static: shapes, counts and names, with those of :class:`CoordinatesSpec`.

    ``directions`` r, ``sparsity`` rows of V, ``spread`` and ``softness`` q of them:
    :func:`gpsense.sparse.directions.draw_directions`. ``link``: coefficients of he_1, he_2, ..., scaled to variance 1.
    ``n``: samples, the bound where the instance gives their number; ``test``: fresh ones that measure the risk.
    """

    dim: int = 64
    directions: int = 1
    sparsity: int = 8
    softness: float = 0.0
    spread: str = "equal"
    link: tuple[float, ...] = (0.0, 1.0)
    test: int = 6400


class SparseFeaturesInstance(eqx.Module):
    """Traced numbers that change the data: ``n`` samples (None: the spec's), ``noise`` sigma, ``tilt`` of a spike."""

    n: ScalarLike | None = None
    noise: ScalarLike = 0.0
    tilt: ScalarLike = 0.0


def sample_sparse_features(
    spec: SparseFeaturesSpec, instance: SparseFeaturesInstance, key: RandomKey
) -> CoordinatesProblem:
    """Draw V and the streams of samples; the same key gives the same draws at every noise level and n."""
    truth_key, train_key, test_key = jax.random.split(key, 3)
    dtype = jnp.dtype(spec.dtype)
    support, rows = draw_directions(
        truth_key, spec.dim, spec.sparsity, spec.directions, spec.spread, spec.softness, instance.tilt, dtype
    )
    count = jnp.asarray(spec.n if instance.n is None else instance.n, dtype)
    noise, nothing = jnp.asarray(instance.noise, dtype), jnp.zeros((), dtype)
    train = GaussianSamples(train_key, count, noise, support, rows, nothing, spec.dim, link(spec.link))
    offset, variance = samples.outputs(train)
    train = eqx.tree_at(lambda stream: stream.offset, train, offset)
    test = eqx.tree_at(
        lambda stream: (stream.key, stream.count, stream.noise),
        train,
        (test_key, jnp.asarray(spec.test, dtype), nothing),
    )
    return CoordinatesProblem(train, variance, test, train.directions())


class SparseFeatures(CoordinateSystem):
    """Sparse features behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "sparse_features"
    Spec: ClassVar[type] = SparseFeaturesSpec
    Instance: ClassVar[type] = SparseFeaturesInstance
    Setting: ClassVar[type] = CoordinatesSetting
    table: ClassVar[tuple[str, ...]] = ("rank", "captured", "energy", "error_pruned", "error")
    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        "rank": ("coordinates kept", "coordinates"),
        "captured": ("share of V in the kept rows: ||V_J||_F^2 / r", "1"),
        "missed": ("coordinates of V that were not kept", "coordinates"),
        "ahead": ("coordinates outside V that score above the lowest inside", "coordinates"),
        "energy": ("before fine-tuning, share of the first layer in the span of V: ||W^T V||_F^2 / ||W||_F^2", "1"),
        "error": ("excess risk over the variance of the noise-free y", "1"),
        "error_trained": ("excess risk before pruning, relative", "1"),
        "error_pruned": ("excess risk after the step and the ridge, relative", "1"),
        "error_curve": ("excess risk along the run, relative", "1"),
        "loss": ("mean squared error on the samples", "variance of the noise-free y"),
        "loss_curve": ("mean squared error along the run", "variance of noise-free y"),
        "selected": ("1 for a coordinate that was kept", "1"),
    }

    def check_data(self, spec: Any) -> None:
        """The part of :meth:`check` about the samples."""
        most = samples.BLOCKS * samples.ROWS
        if spec.n > most:
            raise BadInput("problem.n", f"{spec.n} samples", f"use at most {most}, as many as keys are told apart for")
        if spec.spread not in SPREADS:
            raise BadInput("problem.spread", f"{self.name} has no {spec.spread!r}", f"use one of {', '.join(SPREADS)}")
        link(spec.link)
        if not spec.sparsity <= spec.dim:
            raise BadInput("problem.sparsity", f"{spec.sparsity} rows in dim {spec.dim}", "use at most dim")
        if spec.directions > spec.sparsity:
            got = f"{spec.directions} directions in {spec.sparsity} rows"
            raise BadInput("problem.directions", got, "use at most problem.sparsity")
        if spec.spread == "spike" and (spec.directions > 1 or spec.softness > 0 or spec.sparsity < 2):
            problem = "a spike is one direction of several rows, the others 0"
            raise BadInput("problem.spread", problem, "use another spread, or directions 1, softness 0")
        if spec.softness >= 2:
            raise BadInput("problem.softness", f"q = {spec.softness} is not sparse", "use less than 2")
        if spec.test < FEWEST:
            raise BadInput("problem.test", f"{spec.test} samples measure no risk", f"use {FEWEST} or more")

    def data_numbers(self, spec: Any) -> tuple[int, int]:
        """Numbers that a problem holds, and those needed beside while it is drawn."""
        return spec.dim * spec.directions, samples.ROWS * (spec.sparsity + 4)

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return sample_sparse_features(spec, instance, key)

    def found(self, problem: Any, pruned: PrunedCoordinates) -> dict[str, Scalar]:
        """How well the kept coordinates meet those of V."""
        dtype = pruned.score.dtype
        rows = jnp.sum(problem.truth**2, axis=1)
        inside = rows > 0
        lowest = jnp.min(jnp.where(inside, pruned.score, jnp.inf))
        ahead = ~inside & (pruned.score > lowest)
        return {
            "captured": jnp.sum(jnp.where(pruned.mask, rows, 0.0)) / problem.truth.shape[1],
            "missed": jnp.sum(inside & ~pruned.mask).astype(dtype),
            "ahead": jnp.sum(ahead).astype(dtype),
        }

    def aligned(self, columns: Float[Array, "kept columns"], truth: Any) -> dict[str, Scalar]:
        """How far the first layer's columns lie along V, given by its rows (kept, r) on the kept coordinates."""
        return {"energy": learner.energy(columns, truth)}

    def oracle(self, spec: Any, problem: Any) -> tuple[Bool[Array, " dim"], Float[Array, " dim"]]:
        """The coordinates to keep where the truth is told: mask and score."""
        score = jnp.sqrt(jnp.sum(problem.truth**2, axis=1))
        few = spec.sparsity if spec.softness == 0 else 3 * spec.pool
        return inputs.largest(score, min(few, spec.dim)) & (score > 0), score

    def told(self, spec: Any) -> tuple[int, int]:
        """Directions and coordinates that methods without network are told: r and the rows of V."""
        return spec.directions, min(max(spec.sparsity, spec.directions), spec.dim)
