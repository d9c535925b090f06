"""A network with quadratic activation trained on real data and pruned by neurons: two handwritten digits told apart.

``h(x) = b + sum_j <u_j, x>^2`` is fitted by least squares to labels +-1. The inputs are the leading principal
components of the pixels and a constant, through which a neuron also sees what is linear:
``(<u, z> + c)^2 = <u, z>^2 + 2 c <u, z> + c^2``. There is no truth: the error is that on images held out.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import datasets
from gpsense._linalg import eigh
from gpsense._types import Factor, RandomKey, Scalar, ScalarLike, Values, Vectors
from gpsense.errors import BadInput
from gpsense.sensing.losses import Empirical, Objective, gram_objective
from gpsense.sensing.measurements import Centred, RankOne, centred_measurements
from gpsense.systems._contract import Cost
from gpsense.systems.quadratic_network import QuadraticNetwork, QuadraticNetworkSpec
from gpsense.systems.sensing import prune_key

COMPONENTS = 50  # that every pair of digits has
HELD_OUT = 50  # images of every pair, at least
PAIR, SMALLEST = 365, 351  # images of the largest and of the smallest pair


@dataclass(frozen=True)
class DigitsSpec(QuadraticNetworkSpec):
    """Static: as :class:`QuadraticNetworkSpec`; ``dim`` inputs are dim - 1 principal components and the constant.

    ``n`` images of the pair train, the others are held out. ``rank``: neurons kept by rules and methods that are told.
    """

    dim: int = 21
    width: int = 40
    n: int = 250


class DigitsInstance(eqx.Module):
    """Traced numbers that change the data.

    Which digits (0 to 9, not the same) get the labels +1 and -1, the value of the ``constant`` input, and ``n``
    training images, None for those of the spec.
    """

    positive: ScalarLike = 3.0
    negative: ScalarLike = 8.0
    constant: ScalarLike = 1.0
    n: ScalarLike | None = None


class DigitsProblem(eqx.Module):
    """Loss on the training images; inputs of the held-out ones, less the training mean, and the labels of all.

    ``offset`` is the mean label of the training images, so that ``h = A(U U^T) + offset`` on those held out.
    """

    objective: Objective
    held_out: Centred
    labels: Values
    offset: Scalar
    key: RandomKey | None = None


def inputs(pixels: Float[Array, "n pixels"], used: Bool[Array, " n"], dim: int, constant: ScalarLike) -> Vectors:
    """The leading dim - 1 principal components of pixels (n, pixels) and a constant: shape (n, dim).

    Directions, means and variances, which become 0 and 1, are those of the ``used`` rows; a direction's sign is such
    that its entries' cubes add up to more than 0.
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
    """Pixels (365, 64) and labels (365,) of two digits; labels +1 and -1, and 0 for rows that are neither.

    The images of the pair come first, in the data set's order. The same digit twice has no labels but 0.
    """
    pixels, digits = datasets.digits()
    digits = jnp.asarray(digits, dtype)
    labels = (digits == positive).astype(dtype) - (digits == negative).astype(dtype)
    rows = jnp.argsort(labels == 0, stable=True)[:PAIR]
    return jnp.asarray(pixels, dtype)[rows], labels[rows]


def sample_digits(spec: DigitsSpec, instance: DigitsInstance, key: RandomKey) -> DigitsProblem:
    """Two digits, split at random; the key's ranking of the images does not depend on n: more extend fewer."""
    dtype = jnp.dtype(spec.dtype)
    pixels, labels = pair_of_digits(instance.positive, instance.negative, dtype)
    member = labels != 0
    draw = jnp.where(member, jax.random.uniform(key, (PAIR,), dtype), 2.0)
    place = jnp.argsort(jnp.argsort(draw)).astype(dtype)
    used = member & (place < (spec.n if instance.n is None else instance.n))
    vectors = RankOne(inputs(pixels, used, spec.dim, instance.constant))
    measurements, values = centred_measurements(vectors, labels, used)
    objective = gram_objective(measurements, values) if spec.form == "gram" else Empirical(measurements, values)
    held_out = Centred(vectors, (member & ~used).astype(dtype), measurements.mean)
    weights = used.astype(dtype)
    offset = jnp.sum(weights * labels) / jnp.sum(weights)
    return DigitsProblem(objective, held_out, labels, offset, prune_key(spec, key))


def misclassified(problem: DigitsProblem, factor: Factor) -> Scalar:
    """Share of the held-out images on the wrong side: ``h y <= 0``."""
    weights = problem.held_out.scales
    wrong = (problem.held_out.forward(factor) + problem.offset) * problem.labels <= 0
    return jnp.sum(weights * wrong.astype(weights.dtype)) / jnp.sum(weights)


class Digits(QuadraticNetwork):
    """Two handwritten digits told apart, behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "digits"
    Spec: ClassVar[type] = DigitsSpec
    Instance: ClassVar[type] = DigitsInstance
    metrics: ClassVar[dict[str, tuple[str, str]]] = QuadraticNetwork.metrics | {
        "error": ("held-out images misclassified", "share"),
        "error_trained": ("held-out images misclassified after training", "share"),
        "error_pruned": ("held-out images misclassified after pruning", "share"),
        "error_curve": ("held-out images misclassified along the run", "share"),
    }

    def check(self, spec: Any) -> None:
        super().check(spec)
        if not 2 <= spec.dim <= COMPONENTS + 1:
            raise BadInput("problem.dim", f"{spec.dim} inputs", f"use 2 to {COMPONENTS + 1}, the constant counted")
        if not spec.dim < spec.n <= SMALLEST - HELD_OUT:
            remedy = f"use more than dim ({spec.dim}) and at most {SMALLEST - HELD_OUT}"
            raise BadInput("problem.n", f"{spec.n} training images", remedy)
        if spec.bias != "free":
            raise BadInput("problem.bias", f"{spec.bias!r} separates nothing", "use free")

    def cost(self, spec: Any) -> Cost:
        """Those of all images of a pair, trained on or held out; the data set itself while they are drawn."""
        cost = super().cost(replace(spec, n=PAIR))
        number = jnp.dtype(spec.dtype).itemsize
        pixels, digits = 64, 1797
        return replace(
            cost,
            problem_bytes=cost.problem_bytes + number * PAIR * (spec.dim + 3),
            sample_bytes=cost.sample_bytes + number * pixels * (digits + 3 * PAIR),
        )

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return sample_digits(spec, instance, key)

    def known_rank(self, spec: Any, problem: Any) -> ScalarLike:
        return spec.rank

    def error(self, problem: Any, params: Factor) -> Scalar:
        return misclassified(problem, params)
