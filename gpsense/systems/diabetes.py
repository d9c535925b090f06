"""Real data among noise: the ten columns of a diabetes table and many columns of noise, with input-feature pruning.

The output is a patient's score, standardised on the training rows like the real columns. Which real columns matter is
not known, so there is no truth. Measured are how many real columns and how many columns of noise are kept, and the
error on the test rows, which are not trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense import datasets
from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.fields import Field, Traced
from gpsense.pruning.inputs import Decided
from gpsense.sparse import samples
from gpsense.systems._contract import Measure
from gpsense.systems._coordinates import POOL, CoordinatesProblem, CoordinateSystem, PrunedCoordinates

REAL = len(datasets.DIABETES_COLUMNS)
PATIENTS = 442
FEWEST, HELD_OUT = 30, 40  # rows to train and to test on, at least


class DiabetesData(Traced):
    """Traced numbers that change the data: ``n`` training rows (None: the system's)."""

    n: ScalarLike | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Diabetes(CoordinateSystem[DiabetesData]):
    """scikit-learn's diabetes data with columns of noise added, with input-feature pruning.

    The output is the progression of the disease after a year. After the ten real columns come ``noise_columns`` columns
    of independent standard Gaussian numbers.

    >>> system = gpsense.Diabetes(n=300, noise_columns=50)
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.train.dim
    60
    """

    name: ClassVar[str] = "diabetes"
    Data: ClassVar[type[DiabetesData]] = DiabetesData
    table: ClassVar[tuple[str, ...]] = ("rank", "real", "noise_kept", "error_pruned", "error")
    measures: ClassVar[Mapping[str, Measure]] = {
        **CoordinateSystem.measures,
        "real": Measure("real columns kept, of ten", "columns"),
        "noise_kept": Measure("columns of noise kept", "columns"),
        "error": Measure("squared error on the test rows over the variance of y there"),
        "error_trained": Measure("squared error on the test rows before pruning, relative"),
        "error_pruned": Measure("squared error on the test rows after the step and the ridge, relative"),
        "error_curve": Measure("squared error on the test rows along the run, relative", "1", ("step",)),
        "loss": Measure("mean squared error on the training rows", "variance of y"),
        "loss_trained": Measure("mean squared error on the training rows before pruning", "variance of y"),
        "loss_curve": Measure("mean squared error along the run", "variance of y", ("step",)),
    }

    n: Annotated[
        int,
        Field(
            "problem",
            f"training rows; the others of {PATIENTS} are test rows",
            at_least=FEWEST,
            at_most=PATIENTS - HELD_OUT,
            label="samples n",
        ),
    ] = 342
    pool: Annotated[int, POOL] = 5
    noise_columns: Annotated[
        int, Field("problem", "columns of noise beside the ten real ones", at_least=0, label="columns of noise")
    ] = 200

    @property
    def n_coordinates(self) -> int:
        return REAL + self.noise_columns

    @property
    def oracle_sizes(self) -> tuple[int, int]:
        """One direction, and the number of real columns."""
        return 1, REAL

    def data_numbers(self) -> tuple[int, int]:
        """About how many numbers the training and test samples hold, and how many more while they are drawn."""
        padded = -(-PATIENTS // samples.ROWS) * samples.ROWS
        return 2 * padded * (self.n_coordinates + 2), 2 * PATIENTS * self.n_coordinates

    def draw(self, data: DiabetesData, key: RandomKey) -> CoordinatesProblem:
        """Split the rows at random and draw the columns of noise.

        With the same key, more training rows include those of fewer, and more columns of noise include those of fewer.
        Real columns and outputs have mean 0 and variance 1 over the training rows.
        """
        split_key, noise_key, stream_key = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)
        order = jax.random.permutation(split_key, PATIENTS)
        columns, score = (jnp.asarray(values, dtype)[order] for values in datasets.diabetes())
        drawn = jax.random.normal(noise_key, (self.noise_columns, PATIENTS), dtype).T
        count = jnp.asarray(self.n if data.n is None else data.n, dtype)
        used = (jnp.arange(PATIENTS, dtype=dtype) < count).astype(dtype)
        x = jnp.concatenate([_standardised(columns, used), drawn], axis=1)
        y = _standardised(score[:, None], used)[:, 0]
        train = samples.table(x, y, stream_key, used)
        test = replace(samples.table(x, y, stream_key, 1 - used), offset=train.offset)
        return CoordinatesProblem(train, samples.outputs(train)[1], test, None)

    def oracle(self, problem: CoordinatesProblem) -> Decided:
        """The mask of the real columns; the scores are that mask as numbers."""
        mask = jnp.arange(self.n_coordinates) < REAL
        return mask, mask.astype(jnp.dtype(self.dtype))

    def measure_kept(self, problem: CoordinatesProblem, pruned: PrunedCoordinates) -> dict[str, Scalar]:
        """How many real columns and how many of noise are kept."""
        mask = pruned.mask.astype(pruned.score.dtype)
        return {"real": jnp.sum(mask[:REAL]), "noise_kept": jnp.sum(mask[REAL:])}


def _standardised(values: Float[Array, "n columns"], used: Float[Array, " n"]) -> Float[Array, "n columns"]:
    """The columns scaled to mean 0 and variance 1 over the used rows."""
    weights = used / jnp.sum(used)
    centred = values - (weights @ values)[None, :]
    return centred / jnp.sqrt(weights @ centred**2)[None, :]
