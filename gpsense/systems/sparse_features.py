"""Sparse single- and multi-index models, with input-feature pruning (arXiv 2406.08658).

``y = f(V^T x) + noise e``, x ~ N(0, I_dim), e ~ N(0, 1), where V (dim, r) has few non-zero or large rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy, Traced
from gpsense.pruning.inputs import Decided, largest
from gpsense.sparse import learner, network, samples
from gpsense.sparse.directions import SPREADS, draw_directions
from gpsense.sparse.hermite import link
from gpsense.sparse.network import Kept
from gpsense.sparse.samples import GaussianSamples
from gpsense.systems._contract import Measure
from gpsense.systems._coordinates import CoordinatesProblem, CoordinateSystem, PrunedCoordinates

FEWEST = 100  # test samples, at least
SPREAD_WORDS = ", ".join(f"{name} ({spread.words})" for name, spread in SPREADS.items())


class SparseFeaturesData(Traced):
    """Traced numbers that change the data: ``n`` samples (None: the system's), the noise, ``tilt`` for spread spike."""

    n: ScalarLike | None = None
    noise: Annotated[
        ScalarLike, Field("problem", "standard deviation sigma of the noise", at_least=0, label="noise σ")
    ] = 0.0
    tilt: Annotated[
        ScalarLike,
        Field(
            "problem",
            "with spread spike: size of V's small entries, at most 1 / sqrt(sparsity - 1)",
            at_least=0,
            read_by=(ReadBy("spread", tuple(name for name, spread in SPREADS.items() if spread.tilted)),),
        ),
    ] = 0.0


@final
@dataclass(frozen=True, kw_only=True)
class SparseFeatures(CoordinateSystem[SparseFeaturesData]):
    """Sparse single- and multi-index models, with input-feature pruning (arXiv 2406.08658).

    ``y = f(V^T x) + noise e``, where ``link`` gives f, and V (dim, directions) has ``sparsity`` non-zero rows (with
    ``softness`` > 0, all dim rows are non-zero); see :func:`gpsense.sparse.directions.draw_directions`.

    >>> system = gpsense.SparseFeatures(dim=30, n=500)
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.truth.shape
    (30, 1)
    """

    name: ClassVar[str] = "sparse_features"
    Data: ClassVar[type[SparseFeaturesData]] = SparseFeaturesData
    table: ClassVar[tuple[str, ...]] = ("rank", "captured", "energy", "error_pruned", "error")
    measures: ClassVar[Mapping[str, Measure]] = {
        **CoordinateSystem.measures,
        "captured": Measure("share of V in the kept rows: ||V_J||_F^2 / r"),
        "missed": Measure("coordinates in the support of V that were not kept", "coordinates"),
        "ahead": Measure("coordinates outside the support of V that score above the lowest inside", "coordinates"),
        "energy": Measure("before fine-tuning, share of the first layer in the span of V: ||W^T V||_F^2 / ||W||_F^2"),
        "error": Measure("excess risk over the variance of the noise-free y"),
        "error_trained": Measure("excess risk before pruning, relative"),
        "error_pruned": Measure("excess risk after the step and the ridge, relative"),
        "error_curve": Measure("excess risk along the run, relative", "1", ("step",)),
        "loss": Measure("mean squared error on the samples", "variance of the noise-free y"),
        "loss_curve": Measure("mean squared error along the run", "variance of noise-free y", ("step",)),
    }

    n: Annotated[
        int,
        Field("problem", "number of samples", at_least=1, at_most=samples.BLOCKS * samples.ROWS, label="samples n"),
    ] = 4000
    dim: Annotated[int, Field("problem", "number of inputs", at_least=1, label="dimension d")] = 64
    directions: Annotated[int, Field("problem", "columns r of V in y = f(V^T x)", at_least=1, label="directions r")] = 1
    sparsity: Annotated[
        int,
        Field("problem", "number of non-zero rows of V", at_least=1, label="non-zero rows of V"),
    ] = 8
    softness: Annotated[
        float,
        Field(
            "problem",
            "q of the weak l_q ball that the row norms of V lie in (0: exact zeros)",
            at_least=0,
            below=2,
            label="softness q",
        ),
    ] = 0.0
    spread: Annotated[
        str,
        Field("problem", f"rows of V: {SPREAD_WORDS}", choices=SPREADS, label="rows of the directions"),
    ] = "equal"
    link: Annotated[
        tuple[float, ...],
        Field("problem", "coefficients of f in he_1, he_2, ... (Hermite), scaled to variance 1", axis=False),
    ] = (0.0, 1.0)
    test: Annotated[
        int,
        Field(
            "problem",
            "fresh samples used to measure the risk",
            at_least=FEWEST,
            at_most=samples.BLOCKS * samples.ROWS,
        ),
    ] = 6400

    def check(self) -> None:
        super().check()
        link(self.link)
        if self.sparsity > self.dim:
            raise BadInput("sparsity", f"{self.sparsity} rows in dim {self.dim}", "use at most dim")
        if self.directions > self.sparsity:
            got = f"{self.directions} directions in {self.sparsity} rows"
            raise BadInput("directions", got, "use at most sparsity")
        if SPREADS[self.spread].tilted and (self.directions > 1 or self.softness > 0 or self.sparsity < 2):
            problem = f"a {self.spread} is one direction of at least two rows, without softness"
            raise BadInput("spread", problem, "use another spread, or directions 1, sparsity 2 or more, softness 0")

    def check_data(self, data: SparseFeaturesData) -> None:
        most = max(self.sparsity - 1, 1) ** -0.5
        if SPREADS[self.spread].tilted and np.max(data.tilt) > most:
            problem = f"sparsity - 1 entries of this size exceed norm 1, the norm of a {self.spread}"
            raise BadInput("tilt", problem, f"use at most {most:.4g}")

    @property
    def n_coordinates(self) -> int:
        return self.dim

    @property
    def oracle_sizes(self) -> tuple[int, int]:
        """The number of directions r, and the sparsity: the number of rows of V that matter."""
        return self.directions, min(max(self.sparsity, self.directions), self.dim)

    def data_numbers(self) -> tuple[int, int]:
        return self.dim * self.directions, samples.ROWS * (self.sparsity + 4)

    def draw(self, data: SparseFeaturesData, key: RandomKey) -> CoordinatesProblem:
        """Draw V and the streams of samples; the same key gives the same draws at every noise level and n."""
        truth_key, train_key, test_key = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)
        support, rows = draw_directions(
            truth_key, self.dim, self.sparsity, self.directions, self.spread, self.softness, data.tilt, dtype
        )
        count = jnp.asarray(self.n if data.n is None else data.n, dtype)
        noise, nothing = jnp.asarray(data.noise, dtype), jnp.zeros((), dtype)
        train = GaussianSamples(train_key, count, noise, support, rows, nothing, self.dim, link(self.link))
        offset, variance = samples.outputs(train)
        train = eqx.tree_at(lambda stream: stream.offset, train, offset)
        test = eqx.tree_at(
            lambda stream: (stream.key, stream.count, stream.noise),
            train,
            (test_key, jnp.asarray(self.test, dtype), nothing),
        )
        return CoordinatesProblem(train, variance, test, train.directions())

    def oracle(self, problem: CoordinatesProblem) -> Decided:
        """The mask of V's non-zero rows (with softness, of the ``3 * pool`` largest), and the norms of all rows."""
        assert problem.truth is not None
        score = jnp.sqrt(jnp.sum(problem.truth**2, axis=1))
        few = self.sparsity if self.softness == 0 else 3 * self.pool
        return largest(score, min(few, self.dim)) & (score > 0), score

    def measure_kept(self, problem: CoordinatesProblem, pruned: PrunedCoordinates) -> dict[str, Scalar]:
        assert problem.truth is not None
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

    def measure_layer(
        self, problem: CoordinatesProblem, kept: Kept, columns: Float[Array, "kept columns"]
    ) -> dict[str, Scalar]:
        assert problem.truth is not None
        return {"energy": learner.energy(columns, network.rows_of(kept, problem.truth))}
