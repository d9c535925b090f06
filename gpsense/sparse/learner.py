"""From kept coordinates to a fitted network: Algorithms 2 and 2+ of arXiv 2406.08658, with the ridge chosen by data."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import RandomKey, Scalar
from gpsense.sparse import network as nets
from gpsense.sparse.hermite import Activation
from gpsense.sparse.network import Kept, Network
from gpsense.sparse.samples import ALL, FIT, HELD, Block, Samples


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted: the number of neuron pairs, activation, linear part subtracted from y, and second layer.

    ``residual``: a name of :data:`gpsense.sparse.network.RESIDUALS`; ``second_layer``: one of :data:`SECOND_LAYERS`.
    """

    neurons: int
    activation: Activation
    residual: str = "none"
    second_layer: str = "ridge"


PARTS = (ALL, FIT)  # parts of the samples that the two first layers of a fit are trained on


class Fitted(NamedTuple):
    """The network, and the columns that span its first-layer weights: the step's gradient, or the given directions."""

    network: Network
    gradient: Float[Array, "kept columns"]


def fit(
    samples: Samples,
    kept: Kept,
    recipe: Recipe,
    key: RandomKey,
    given: Float[Array, "parts kept r"] | None = None,
) -> Fitted:
    """One gradient step on the kept coordinates, fresh biases, and the second layer.

    The second layer's penalty is chosen with a network trained, step included, without the held-out samples; the
    network returned uses every sample. ``given`` directions (from all samples, then from those not held out) replace
    the step: each neuron's weights are a random combination of them.
    """
    fit = SECOND_LAYERS[recipe.second_layer]
    parts = jnp.asarray(PARTS, jnp.int32)[: 1 if fit is None else 2]
    layer = lambda part, columns: first_layer(samples.seen_as(part), kept, recipe, key, columns)  # noqa: E731
    layers, gradients = jax.vmap(layer)(parts, None if given is None else given[: len(parts)])
    network = jax.tree.map(itemgetter(0), layers) if fit is None else fit(samples, kept, recipe.activation, layers)
    return Fitted(network, gradients[0])


def held_out_ridge(samples: Samples, kept: Kept, activation: Activation, layers: Network) -> Network:
    """The network trained on all samples, with its second layer fitted by ridge regression.

    The penalty is the one of :data:`gpsense.sparse.network.RIDGES` with the least error on the held-out fifth for the
    network trained on the other samples. ``layers`` holds both networks on its leading axis, as in :data:`PARTS`.
    """
    network, trial = (jax.tree.map(itemgetter(place), layers) for place in (0, 1))
    see = lambda part, net: nets.statistics(samples.seen_as(part), kept, net, activation)  # noqa: E731
    seen = jax.vmap(see)(jnp.asarray(PARTS, jnp.int32), layers)
    whole, rest = (jax.tree.map(itemgetter(place), seen) for place in (0, 1))
    penalties = jnp.asarray(nets.RIDGES, samples.dtype)
    path = nets.ridge(rest, trial, penalties)
    errors, _ = nets.squared_errors(samples.seen_as(HELD), kept, path, activation)
    best = nets.ridge(whole, network, penalties[jnp.argmin(errors)][None])
    return jax.tree.map(lambda leaf: leaf[0], best)


# how output weights are fitted, given the first layers of both parts; None: they stay 0, only the first layer counts
SECOND_LAYERS: dict[str, Callable[[Samples, Kept, Activation, Network], Network] | None] = {
    "ridge": held_out_ridge,
    "none": None,
}


def first_layer(
    samples: Samples, kept: Kept, recipe: Recipe, key: RandomKey, given: Float[Array, "kept r"] | None = None
) -> tuple[Network, Float[Array, "kept columns"]]:
    """The network after its step on the samples, output weights still 0, and the columns that span its weights."""
    start_key, bias_key, fresh_key = jax.random.split(key, 3)
    biases = jax.random.normal(bias_key, (recipe.neurons,), samples.dtype)
    fresh = jax.random.normal(fresh_key, (2 * recipe.neurons,), samples.dtype)
    linear = nets.RESIDUALS[recipe.residual](samples, kept)
    if given is not None:
        mixed = given @ _mixture(start_key, given.shape[1], recipe.neurons, samples)
        return nets.stepped(mixed, linear, fresh), given
    weights = nets.draw_weights(start_key, kept, recipe.neurons, samples.dtype)
    gradient = nets.step_gradient(samples, kept, weights, biases, linear, recipe.activation)
    return nets.stepped(gradient, linear, fresh), gradient


def _mixture(key: RandomKey, r: int, neurons: int, samples: Samples) -> Float[Array, "r neurons"]:
    """Random unit vectors, one per neuron."""
    draw = jax.random.normal(key, (r, neurons), samples.dtype)
    return draw / jnp.sqrt(jnp.sum(draw**2, axis=0))[None, :]


def loss(samples: Samples, kept: Kept, activation: Activation, network: Network) -> tuple[Scalar, Network]:
    """``(1/n) sum (h(x) - y)^2`` over a stream, and its gradient with respect to the network's parameters."""

    def summed(network: Network, block: Block) -> Scalar:
        return jnp.sum(block.used * (network(activation, block.x) - block.y) ** 2)

    def add(carry: tuple[Scalar, Network, Scalar], block: Block) -> tuple[Scalar, Network, Scalar]:
        value, slope = jax.value_and_grad(summed)(network, block)
        return carry[0] + value, jax.tree.map(jnp.add, carry[1], slope), carry[2] + block.used.sum()

    nothing = jnp.zeros((), samples.dtype)
    total, slope, count = nets.fold_kept(samples, kept, add, (nothing, jax.tree.map(jnp.zeros_like, network), nothing))
    return total / count, jax.tree.map(lambda leaf: leaf / count, slope)


def mean_square(samples: Samples, kept: Kept, activation: Activation, network: Network) -> Scalar:
    """The mean squared error ``(1/n) sum (h(x) - y)^2``, without its gradient."""
    return _errors(samples, kept, activation, network)[0]


def risk(samples: Samples, kept: Kept, activation: Activation, network: Network) -> Scalar:
    """The risk ``mean (h - y)^2 / variance of y``: 1 for the best constant, the excess risk on noise-free samples."""
    error, variance = _errors(samples, kept, activation, network)
    return error / variance


def _errors(samples: Samples, kept: Kept, activation: Activation, network: Network) -> tuple[Scalar, Scalar]:
    """Mean squared error of one network and the variance of y."""
    errors, variance = nets.squared_errors(samples, kept, jax.tree.map(lambda leaf: leaf[None], network), activation)
    return errors[0], variance


def energy(columns: Float[Array, "kept columns"], truth: Float[Array, "kept r"]) -> Scalar:
    """Share of the energy of the columns G in the span of the truth V: ``||G^T V||_F^2 / ||G||_F^2``; 0 if G = 0."""
    size = jnp.sum(columns**2)
    return jnp.sum((columns.T @ truth) ** 2) / jnp.where(size == 0, 1.0, size)
