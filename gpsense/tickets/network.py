"""Multi-layer networks as Equinox modules: how one is made, what it is fitted to, and the losses and errors of both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from gpsense._types import Parameters, RandomKey, Scalar, Values
from gpsense.errors import BadInput
from gpsense.pruning.leaves import Prunable, What, paths, prunable, verify_untied
from gpsense.pruning.weight_scores import synaptic_flow

Outputs = Float[Array, "n ..."]
Targets = Shaped[Array, "n ..."]


def cross_entropy(outputs: Outputs, labels: Targets) -> Values:
    """``log sum_c exp o_c - o_y`` of every row; labels are class numbers."""
    outputs = outputs - jax.lax.stop_gradient(jnp.max(outputs, axis=-1, keepdims=True))
    # a sum over classes compiles sooner than reading one of them, and its derivative than adding to one
    own = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
    return jnp.log(jnp.sum(jnp.exp(outputs), axis=-1)) - jnp.sum(jnp.where(own, outputs, 0.0), axis=-1)


def misclassified(outputs: Outputs, labels: Targets) -> Values:
    """1 where the largest output is another class's."""
    return (jnp.argmax(outputs, axis=-1) != labels.astype(int)).astype(outputs.dtype)


def squared(outputs: Outputs, targets: Targets) -> Values:
    """``||o - y||^2`` of every row; BadInput where a row has more outputs than targets, or fewer."""
    if outputs.size != targets.size:
        problem = f"shape {targets.shape} for outputs of shape {outputs.shape}"
        raise BadInput("targets", problem, "give as many numbers a row as the network")
    difference = outputs.reshape(outputs.shape[0], -1) - targets.reshape(outputs.shape[0], -1).astype(outputs.dtype)
    return jnp.sum(difference**2, axis=1)


class Criterion(NamedTuple):
    """Numbers of outputs and targets, one a row: ``classes`` where targets are class numbers; what has no slope is no
    loss, an error only.
    """

    function: Callable[[Outputs, Targets], Values]
    classes: bool = False
    slope: bool = True


CRITERIA: dict[str, Criterion] = {
    "cross_entropy": Criterion(cross_entropy, classes=True),
    "misclassified": Criterion(misclassified, classes=True, slope=False),
    "squared": Criterion(squared),
}


class Samples(NamedTuple):
    """Inputs (n, ...), targets (n, ...), and which rows count (n,): 1 or 0."""

    inputs: Array
    targets: Array
    used: Values


@dataclass(frozen=True, eq=False)
class Task:
    """A network with its loss and error; ``make(key)`` is an Equinox module from one input (``shape``) to its outputs.

    ``loss`` and ``error`` map outputs (n, ...) and targets (n, ...) to a number a row. ``prune`` says which arrays can
    be pruned, as ``what`` of :func:`gpsense.pruning.leaves.prunable`; ``whole``: inputs are whole numbers. Modules
    whose arrays are not all of floating point are refused, and so are those that need a state or a key when they are
    called, hold the same layer twice, or have nothing to prune.
    """

    make: Callable[[RandomKey], Any]
    shape: tuple[int, ...]
    loss: Callable[[Outputs, Targets], Values] = cross_entropy
    error: Callable[[Outputs, Targets], Values] = misclassified
    prune: What | None = None
    whole: bool = False

    @cached_property
    def still(self) -> Any:
        """The module without its arrays: functions, sizes, names."""

        def made(key: RandomKey) -> Any:
            verify_untied(module := self.make(key))
            return module

        shapes = eqx.filter_eval_shape(made, jax.random.key(0))
        is_array = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
        if not any(map(is_array, leaves := jax.tree.leaves(shapes))):
            raise BadInput("make", "the network has no arrays", "return a module with weights, as equinox.nn.MLP")
        if any(is_array(leaf) and not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
            problem = "the network carries state (BatchNorm?): arrays of whole numbers"
            raise BadInput(
                "make", problem, "use floating-point weights only, and norms without state such as LayerNorm"
            )
        if not any(jax.tree.leaves(prunable(shapes, self.prune))):
            raise BadInput("prune", "the network has no weights to prune", f"arrays are {', '.join(paths(shapes))}")
        return eqx.partition(shapes, is_array)[1]

    def draw(self, key: RandomKey, dtype: Any) -> Parameters:
        """The arrays of a fresh network, the rest being None."""
        params = eqx.filter(self.make(key), eqx.is_array)
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    def prunable(self, params: Parameters) -> Prunable:
        """Which arrays of a tree of them can be pruned."""
        return prunable(params, self.prune)

    def model(self, params: Parameters) -> Any:
        """The module with these arrays."""
        return eqx.combine(params, self.still)

    def outputs(self, params: Parameters, inputs: Array) -> Outputs:
        """Outputs of every row of inputs."""
        return jax.vmap(self.model(params))(inputs)

    def risk(self, params: Parameters, samples: Samples) -> Scalar:
        """Mean loss over the rows in use."""
        return _mean(self.loss(self.outputs(params, samples.inputs), samples.targets), samples.used)

    def mistakes(self, params: Parameters, samples: Samples) -> Scalar:
        """Mean error over the rows in use."""
        return _mean(self.error(self.outputs(params, samples.inputs), samples.targets), samples.used)

    def flow(self, params: Parameters) -> Scalar:
        """Sum of the outputs for an input of ones, weights made absolute and biases 0: what SynFlow derives."""
        return synaptic_flow(self.shape, dtype=jnp.int32 if self.whole else None)(self.model(params))


def _mean(numbers: Values, used: Values) -> Scalar:
    return jnp.sum(jnp.where(used > 0, numbers, 0.0)) / jnp.maximum(jnp.sum(used), 1)


def perceptron(key: RandomKey, sizes: tuple[int, ...]) -> eqx.nn.Sequential:
    """Linear layers of these sizes, inputs first and outputs last, with ReLU between them; an input is flattened."""
    layers: list[Any] = [eqx.nn.Lambda(jnp.ravel)]
    for place, layer_key in enumerate(jax.random.split(key, len(sizes) - 1)):
        layers += [eqx.nn.Linear(sizes[place], sizes[place + 1], key=layer_key), eqx.nn.Lambda(jax.nn.relu)]
    return eqx.nn.Sequential(layers[:-1])
