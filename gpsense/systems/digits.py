"""Two handwritten digits classified by a network with quadratic activation that is pruned by neurons: real data.

``h(x) = b + sum_j <u_j, x>^2`` is fitted by least squares to labels +-1. The inputs are the leading principal
components z of the pixels and a constant, which gives a neuron a linear term as well:
``(<u, z> + c)^2 = <u, z>^2 + 2 c <u, z> + c^2``, where c is the neuron's weight times the constant. There is no truth:
the error is the share of held-out images misclassified.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import datasets
from gpsense._linalg import eigh
from gpsense._types import Factor, Integer, RandomKey, Scalar, ScalarLike, Values, Vectors
from gpsense.errors import BadInput
from gpsense.fields import Field, Traced
from gpsense.sensing.losses import Empirical, Objective, gram_objective
from gpsense.sensing.measurements import Centred, Ensemble, RankOne, centred_measurements
from gpsense.systems._column_fields import ColumnSetting, column_measures
from gpsense.systems._columns import ColumnSystem
from gpsense.systems._contract import Cost, Measure
from gpsense.systems.quadratic_network import INPUTS, network_cost

COMPONENTS = 50  # principal components, at most: every pair of digits has as many
HELD_OUT = 50  # held-out images of every pair, at least
PAIR, SMALLEST = 365, 351  # images of the largest and of the smallest pair


class DigitsData(Traced):
    """Traced numbers that change the data: which digits get the labels +1 and -1, and the constant input."""

    positive: Annotated[
        ScalarLike,
        Field("problem", "digit labelled +1", at_least=0, at_most=9, whole=True, label="digit labelled +1"),
    ] = 3.0
    negative: Annotated[
        ScalarLike,
        Field("problem", "digit labelled -1", at_least=0, at_most=9, whole=True, label="digit labelled -1"),
    ] = 8.0
    constant: Annotated[ScalarLike, Field("problem", "value of the constant input", above=0)] = 1.0
    n: ScalarLike | None = None


class DigitsProblem(eqx.Module):
    """The loss on the training images, the map to outputs on the held-out images, and the labels of all images.

    ``held_out`` maps U U^T to outputs on the held-out images, less the mean output on the training images. ``offset``
    is the mean label of the training images: outputs h on the held-out images are that map's values plus ``offset``.
    """

    objective: Objective
    held_out: Centred
    labels: Values
    offset: Scalar
    key: RandomKey | None = None


def inputs(pixels: Float[Array, "n pixels"], used: Bool[Array, " n"], dim: int, constant: ScalarLike) -> Vectors:
    """The leading dim - 1 principal components of pixels (n, pixels) and a constant: shape (n, dim).

    The components are standardised; directions, means and variances are those of the ``used`` rows. The sign of each
    direction is chosen such that the sum of its cubed entries is positive.
    """
    weights = used.astype(pixels.dtype) / jnp.sum(used.astype(pixels.dtype))
    centred = pixels - (weights @ pixels)[None, :]
    variances, directions = eigh((centred * weights[:, None]).T @ centred)
    variances, directions = variances[::-1][: dim - 1], directions[:, ::-1][:, : dim - 1]
    signs = jnp.where(jnp.sum(directions**3, axis=0) < 0, -1.0, 1.0).astype(pixels.dtype)
    components = centred @ directions * (signs / jnp.sqrt(variances))[None, :]
    last = jnp.broadcast_to(jnp.asarray(constant, pixels.dtype), (pixels.shape[0], 1))
    return jnp.concatenate([components, last], axis=1)


def pair_of_digits(positive: ScalarLike, negative: ScalarLike, dtype: Any) -> tuple[Float[Array, "n pixels"], Values]:
    """Pixels (365, 64) and labels (365,) of two digits; labels are +1 and -1, and 0 for rows of other digits.

    The images of the pair come first, in the data set's order. For the same digit twice all labels are 0.
    """
    pixels, digits = datasets.digits()
    digits = jnp.asarray(digits, dtype)
    labels = (digits == positive).astype(dtype) - (digits == negative).astype(dtype)
    rows = jnp.argsort(labels == 0, stable=True)[:PAIR]
    return jnp.asarray(pixels, dtype)[rows], labels[rows]


def misclassified(problem: DigitsProblem, factor: Factor) -> Scalar:
    """The share of held-out images that are misclassified: ``h y <= 0`` for output h and label y."""
    weights = problem.held_out.scales
    wrong = (problem.held_out.forward(factor) + problem.offset) * problem.labels <= 0
    return jnp.sum(weights * wrong.astype(weights.dtype)) / jnp.sum(weights)


@final
@dataclass(frozen=True, kw_only=True)
class Digits(ColumnSystem[DigitsData, DigitsProblem]):
    """Two of scikit-learn's handwritten digits classified by a network with quadratic activation, pruned by neurons.

    Data says which two digits (by default 3 and 8). The ``dim`` inputs are dim - 1 principal components of the pixels
    and the constant. The network is trained on ``n`` images of the two, the others are held out. ``rank``: how many
    neurons are kept by rules and methods that are given a rank.

    >>> system = gpsense.Digits(dim=21, n=250)
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.labels.shape
    (365,)
    """

    name: ClassVar[str] = "digits"
    Data: ClassVar[type[DigitsData]] = DigitsData
    Setting: ClassVar[type[ColumnSetting]] = ColumnSetting
    measures: ClassVar[Mapping[str, Measure]] = column_measures(
        "held-out images misclassified",
        "neurons",
        "weight norms ||u_j|| of the neurons after training, largest first",
        "distance of the nearest weight norm to the threshold",
        "units of U",
    ) | {
        "error": Measure("held-out images misclassified", "share"),
        "error_trained": Measure("held-out images misclassified after training", "share"),
        "error_pruned": Measure("held-out images misclassified after pruning", "share"),
        "error_curve": Measure("held-out images misclassified along the run", "share", ("step",)),
    }

    dim: Annotated[
        int,
        Field("problem", "inputs, the constant included", at_least=2, at_most=COMPONENTS + 1, label="dimension d"),
    ] = 21
    width: Annotated[int | None, Field("problem", "neurons k; null: dim", at_least=1, label="width k")] = None
    rank: Annotated[int, Field("problem", "neurons kept by rules that are given a rank", at_least=1)] = 2
    n: Annotated[int, Field("problem", "training images", at_least=1, label="samples n")] = 250

    @property
    def ensemble(self) -> Ensemble:
        return INPUTS

    def check(self) -> None:
        super().check()
        if not self.dim < self.n <= SMALLEST - HELD_OUT:
            remedy = f"use more than dim ({self.dim}) and at most {SMALLEST - HELD_OUT}"
            raise BadInput("n", f"{self.n} training images", remedy)

    def check_data(self, data: DigitsData) -> None:
        if data.positive == data.negative:
            raise BadInput("negative", "the same digit as positive", "give two different digits")

    def cost(self) -> Cost:
        """The cost for all images of the pair, used or held out; drawing needs the whole data set in memory."""
        cost, number = network_cost(self, self.cost_of(PAIR), PAIR), jnp.dtype(self.dtype).itemsize
        pixels, digits = 64, 1797
        return replace(
            cost,
            problem_bytes=cost.problem_bytes + number * PAIR * (self.dim + 3),
            sample_bytes=cost.sample_bytes + number * pixels * (digits + 3 * PAIR),
        )

    def draw(self, data: DigitsData, key: RandomKey) -> DigitsProblem:
        """Split the images of two digits at random; with the same key a larger n keeps the images of a smaller n."""
        dtype = jnp.dtype(self.dtype)
        pixels, labels = pair_of_digits(data.positive, data.negative, dtype)
        member = labels != 0
        draw = jnp.where(member, jax.random.uniform(key, (PAIR,), dtype), 2.0)
        place = jnp.argsort(jnp.argsort(draw)).astype(dtype)
        used = member & (place < (self.n if data.n is None else data.n))
        vectors = RankOne(inputs(pixels, used, self.dim, data.constant))
        measurements, values = centred_measurements(vectors, labels, used)
        objective = gram_objective(measurements, values) if self.form == "gram" else Empirical(measurements, values)
        held_out = Centred(vectors, (member & ~used).astype(dtype), measurements.mean)
        weights = used.astype(dtype)
        offset = jnp.sum(weights * labels) / jnp.sum(weights)
        return DigitsProblem(objective, held_out, labels, offset, self.prune_key(key))

    def known_rank(self, problem: DigitsProblem) -> ScalarLike | Integer:
        return self.rank

    def error(self, problem: DigitsProblem, factor: Factor) -> Scalar:
        return misclassified(problem, factor)
