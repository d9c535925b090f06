"""What systems with column-wise pruning share: traced numbers of the truth and of training, starts, measures."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import Factor, RandomKey, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy, Traced
from gpsense.optimizers import FineTuneRate, FineTuneTolerance, Momentum, Rate, Tolerance
from gpsense.pruning.columns import FIXED_RULES
from gpsense.sensing.methods import BASELINES, Tuning
from gpsense.sensing.truths import geometric_spectrum, low_rank_truth
from gpsense.systems._contract import Measure


def gaussian_start(key: RandomKey, rows: int, width: int, dtype: Any) -> Factor:
    """A factor (rows, width) of independent N(0, 1) entries; column j does not depend on the width."""
    return jax.random.normal(key, (width * rows,), dtype).reshape(width, rows).T


def identical_start(key: RandomKey, rows: int, width: int, dtype: Any) -> Factor:
    """A factor (rows, width) whose columns are all the same column of N(0, 1) entries."""
    return jnp.broadcast_to(gaussian_start(key, rows, 1, dtype), (rows, width))


STARTS: dict[str, Callable[[RandomKey, int, int, Any], Factor]] = {
    "gaussian": gaussian_start,
    "identical": identical_start,
}


GREEDY = "greedy_pruning"
PRUNED = ReadBy("method", (GREEDY,))  # baselines have their own steps and are not pruned
COUNTED = ReadBy("rule", ("top_r", "random"), FIXED_RULES)
_METHODS = frozenset({GREEDY, *BASELINES})
_TUNED = {
    "rate": tuple(name for name in BASELINES if name != "irls"),
    "penalty": ("irls", "prec_gd", "scaled_gd_lambda", "trace_norm"),
    "start_scale": ("agn", "scaled_gd_lambda", "small_start", "small_start_held_out"),
    "tolerance": tuple(BASELINES),
}
TUNED = {number: (ReadBy("method", names, _METHODS),) for number, names in _TUNED.items()}


def _of_greedy(annotation: Any) -> Field:
    """The field of an annotation, marked as read by greedy pruning and by no baseline."""
    declaration = annotation.__metadata__[0]
    return replace(declaration, read_by=(PRUNED, *declaration.read_by))


class TruthData(Traced):
    """Traced numbers that change the data: sizes below the system's bounds, the noise, and the truth."""

    n: ScalarLike | None = None
    rank: ScalarLike | None = None
    noise: Annotated[ScalarLike, Field("problem", "standard deviation of the noise", at_least=0, label="noise σ")] = 0.0
    condition: Annotated[
        ScalarLike,
        Field("problem", "condition number mu_1 / mu_r; mu_1 = 1", at_least=1, label="condition number of the truth"),
    ] = 1.0
    spectrum: Annotated[
        tuple[float, ...] | jax.Array | None,
        Field(
            "problem",
            "eigenvalues mu_j of the truth (system rectangular: singular values), instead of condition",
            above=0,
            axis=False,
        ),
    ] = None
    truth: Annotated[
        Factor | None,
        Field(
            "problem",
            "factor U* (dim, rank) of the truth (system rectangular: [U*; V*]), a .npy file, instead of a draw",
            axis=False,
        ),
    ] = None


class ColumnSetting(Traced):
    """Traced numbers that do not change the data.

    ``width``: number of columns in use, None for all of the system's; the others are zero and stay zero.
    ``baseline_*`` tune baselines, each in its own units.
    """

    width: ScalarLike | None = None
    penalty: Annotated[ScalarLike, Field("train", "weight lambda of the penalty", at_least=0, label="penalty λ")] = 0.1
    smoothing: Annotated[
        ScalarLike, Field("train", "smoothing beta of the group lasso", above=0, label="smoothing β")
    ] = 0.04
    rate: Annotated[ScalarLike, _of_greedy(Rate)] = 0.02
    momentum: Annotated[ScalarLike, _of_greedy(Momentum)] = 0.9
    start_scale: Annotated[
        ScalarLike,
        Field(
            "train",
            "RMS column norm at the start",
            above=0,
            label="scale of the start",
            read_by=(PRUNED,),
        ),
    ] = 0.3
    tolerance: Annotated[ScalarLike, _of_greedy(Tolerance)] = 1e-4
    perturbation: Annotated[
        ScalarLike, Field("train", "radius of the noise added at a stationary point", at_least=0, read_by=(PRUNED,))
    ] = 0.0
    threshold: Annotated[
        ScalarLike | None,
        Field(
            "prune",
            "columns of at most this norm are deleted (null: 2 sqrt(smoothing))",
            at_least=0,
            label="threshold on the column norms",
            read_by=(PRUNED, ReadBy("rule", ("threshold",), FIXED_RULES)),
        ),
    ] = None
    keep: Annotated[
        ScalarLike | None,
        Field(
            "prune",
            "number r of columns kept by the rules top_r and random (null: problem.rank)",
            at_least=1,
            whole=True,
            label="columns kept",
            read_by=(PRUNED, COUNTED),
        ),
    ] = None
    fine_tune_rate: Annotated[ScalarLike | None, _of_greedy(FineTuneRate)] = None
    fine_tune_tolerance: Annotated[ScalarLike, _of_greedy(FineTuneTolerance)] = 1e-5
    baseline_rate: Annotated[
        ScalarLike,
        Field(
            "baseline",
            "step size, relative to the method's own",
            above=0,
            read_by=TUNED["rate"],
        ),
    ] = 1.0
    baseline_penalty: Annotated[
        ScalarLike,
        Field(
            "baseline",
            "regularisation or damping, in the method's units (0: its own choice)",
            at_least=0,
            read_by=TUNED["penalty"],
        ),
    ] = 0.0
    baseline_start_scale: Annotated[
        ScalarLike,
        Field(
            "baseline", "column norm of a random start, relative to the solution", above=0, read_by=TUNED["start_scale"]
        ),
    ] = 1e-3
    baseline_tolerance: Annotated[
        ScalarLike, Field("baseline", "stop at this relative change per step", at_least=0, read_by=TUNED["tolerance"])
    ] = 0.0

    @property
    def tuning(self) -> Tuning:
        """The tuning parameters of a baseline."""
        return Tuning(self.baseline_rate, self.baseline_penalty, self.baseline_start_scale, self.baseline_tolerance)


def column_measures(error: str, parts: str, norms: str, margin: str, unit: str) -> dict[str, Measure]:
    """The measures whose words differ between the systems: error, rank, column norms and margin."""
    return {
        "error": Measure(error),
        "rank": Measure(f"{parts} kept by pruning", parts),
        "column_norms": Measure(norms, unit, ("column",)),
        "margin": Measure(margin, unit),
    }


def draw_truth(key: RandomKey, dim: int, rank: int, data: TruthData, dtype: Any) -> Factor:
    """The factor U* (dim, rank): as given, or drawn with the spectrum of ``data``."""
    if data.truth is not None:
        return jnp.asarray(data.truth, dtype)
    return low_rank_truth(key, dim, spectrum_of(rank, data, dtype))


def spectrum_of(rank: int, data: TruthData, dtype: Any) -> Float[Array, " rank"]:
    """The eigenvalues (rank,): as given, or geometric with the condition number of ``data``."""
    spectrum = data.spectrum
    if spectrum is None:
        spectrum = geometric_spectrum(rank, data.condition, dtype, data.rank)
    return jnp.asarray(spectrum, dtype)


def check_truth(rows: int, rank: int, data: TruthData) -> None:
    """Raises BadInput where condition, spectrum, truth and rank contradict one another."""
    given = [name for name in ("spectrum", "truth") if getattr(data, name) is not None]
    if given and data.condition != 1.0:
        raise BadInput("condition", f"{given[0]} already fixes the eigenvalues", "leave condition at 1")
    if len(given) == 2:
        raise BadInput("spectrum", "the truth already fixes the eigenvalues", "remove spectrum")
    if given and data.rank is not None:
        raise BadInput("rank", f"{given[0]} fixes the rank", "give one rank, not several")
    if data.spectrum is not None and len(data.spectrum) != rank:
        raise BadInput("spectrum", f"{len(data.spectrum)} eigenvalues for rank {rank}", "give as many as the rank")
    if data.truth is not None and data.truth.shape != (rows, rank):
        problem = f"has shape {data.truth.shape}, should have {(rows, rank)}"
        raise BadInput("truth", problem, "give a dim and rank that match it")
    if data.truth is not None and not data.truth.any():
        raise BadInput("truth", "all its numbers are zero", "give a non-zero factor")
