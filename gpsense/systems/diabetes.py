"""Real data among noise: the ten columns of a diabetes table and many more that are drawn, pruned by column.

The outputs are a patient's score, standardised like the real columns on the training rows. Which real columns matter is
not known, so there is no truth: the measures are how many real and drawn columns stay, and the error on rows that were
not trained on.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import datasets
from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.sparse import samples
from gpsense.systems._coordinates import (
    CoordinatesProblem,
    CoordinatesSetting,
    CoordinatesSpec,
    CoordinateSystem,
    PrunedCoordinates,
)
from gpsense.systems.sparse_features import SparseFeatures

REAL = len(datasets.DIABETES_COLUMNS)
PATIENTS = 442
FEWEST, HELD_OUT = 30, 40  # rows to train and to test on, at least


@dataclass(frozen=True)
class DiabetesSpec(CoordinatesSpec):
    """Static: as :class:`CoordinatesSpec`; ``n`` rows train, the others of the 442 test.

    ``noise_columns``: columns of standard Gaussians beside the ten real ones, which come first.
    """

    n: int = 342
    pool: int = 5
    noise_columns: int = 200

    @property
    def dim(self) -> int:
        """All columns."""
        return REAL + self.noise_columns


class DiabetesInstance(eqx.Module):
    """Traced numbers that change the data: ``n`` training rows, None for those of the spec."""

    n: ScalarLike | None = None


def sample_diabetes(spec: DiabetesSpec, instance: DiabetesInstance, key: RandomKey) -> CoordinatesProblem:
    """Rows split at random and columns of noise drawn; more rows, or more such columns, extend fewer.

    Real columns and outputs have mean 0 and variance 1 over the training rows.
    """
    split_key, noise_key, stream_key = jax.random.split(key, 3)
    dtype = jnp.dtype(spec.dtype)
    order = jax.random.permutation(split_key, PATIENTS)
    columns, score = (jnp.asarray(values, dtype)[order] for values in datasets.diabetes())
    drawn = jax.random.normal(noise_key, (spec.noise_columns, PATIENTS), dtype).T
    count = jnp.asarray(spec.n if instance.n is None else instance.n, dtype)
    used = (jnp.arange(PATIENTS, dtype=dtype) < count).astype(dtype)
    x = jnp.concatenate([_standardised(columns, used), drawn], axis=1)
    y = _standardised(score[:, None], used)[:, 0]
    train = samples.table(x, y, stream_key, used)
    test = replace(samples.table(x, y, stream_key, 1 - used), offset=train.offset)
    return CoordinatesProblem(train, samples.outputs(train)[1], test, None)


def _standardised(values: Float[Array, "n columns"], used: Float[Array, " n"]) -> Float[Array, "n columns"]:
    """Mean 0 and variance 1 over the used rows."""
    weights = used / jnp.sum(used)
    centred = values - (weights @ values)[None, :]
    return centred / jnp.sqrt(weights @ centred**2)[None, :]


class Diabetes(CoordinateSystem):
    """The diabetes table among noise, behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "diabetes"
    Spec: ClassVar[type] = DiabetesSpec
    Instance: ClassVar[type] = DiabetesInstance
    Setting: ClassVar[type] = CoordinatesSetting
    table: ClassVar[tuple[str, ...]] = ("rank", "real", "noise_kept", "error_pruned", "error")
    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        name: words
        for name, words in SparseFeatures.metrics.items()
        if name in ("rank", "loss", "loss_curve", "selected")
    } | {
        "real": ("real columns kept, of ten", "columns"),
        "noise_kept": ("columns of noise kept", "columns"),
        "error": ("squared error on the test rows over the variance of y there", "1"),
        "error_trained": ("squared error on the test rows before pruning, relative", "1"),
        "error_pruned": ("squared error on the test rows after the step and the ridge, relative", "1"),
        "error_curve": ("squared error on the test rows along the run, relative", "1"),
    }

    def check_data(self, spec: Any) -> None:
        if spec.noise_columns < 0:
            raise BadInput("problem.noise_columns", f"{spec.noise_columns} columns", "use 0 or more")
        if not FEWEST <= spec.n <= PATIENTS - HELD_OUT:
            remedy = f"use {FEWEST} to {PATIENTS - HELD_OUT}: the others of {PATIENTS} test"
            raise BadInput("problem.n", f"{spec.n} training rows", remedy)

    def data_numbers(self, spec: Any) -> tuple[int, int]:
        """Both streams, every row filled up to whole blocks; the columns before that."""
        padded = -(-PATIENTS // samples.ROWS) * samples.ROWS
        return 2 * padded * (spec.dim + 2), 2 * PATIENTS * spec.dim

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return sample_diabetes(spec, instance, key)

    def oracle(self, spec: Any, problem: Any) -> tuple[Bool[Array, " dim"], Float[Array, " dim"]]:
        """The real columns."""
        mask = jnp.arange(spec.dim) < REAL
        return mask, mask.astype(jnp.dtype(spec.dtype))

    def told(self, spec: Any) -> tuple[int, int]:
        return 1, REAL

    def aligned(self, columns: Float[Array, "kept columns"], truth: Any) -> dict[str, Scalar]:
        """Nothing: the directions that matter are not known."""
        return {}

    def found(self, problem: Any, pruned: PrunedCoordinates) -> dict[str, Scalar]:
        """How many real columns and how many of noise are kept."""
        mask = pruned.mask.astype(pruned.score.dtype)
        return {"real": jnp.sum(mask[:REAL]), "noise_kept": jnp.sum(mask[REAL:])}
