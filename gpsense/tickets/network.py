"""Multi-layer networks as Equinox modules: how they are made, the samples they are fitted to, losses and errors."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from gpsense._types import Parameters, RandomKey, Scalar, Values
from gpsense.errors import BadInput
from gpsense.fields import check_key, shown
from gpsense.pruning.leaves import Prunable, What, called_as, gains_alone, paths, prunable, verify_untied
from gpsense.pruning.weight_scores import absolute_flow
from gpsense.tickets.convolutions import by_products

Outputs = PyTree[Float[Array, "n ..."]]
Targets = Shaped[Array, "n ..."]
NETWORK = "an Equinox module, or equinox.nn.make_with_state(Network)(key)"  # what make returns


def cross_entropy(outputs: Outputs, labels: Targets) -> Values:
    """The cross-entropy ``log sum_c exp o_c - o_y`` per row of the outputs o; the labels y are class numbers."""
    outputs = outputs - jax.lax.stop_gradient(jnp.max(outputs, axis=-1, keepdims=True))
    # a sum over classes compiles faster than indexing one, and so does its derivative
    own = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
    return jnp.log(jnp.sum(jnp.exp(outputs), axis=-1)) - jnp.sum(jnp.where(own, outputs, 0.0), axis=-1)


def misclassified(outputs: Outputs, labels: Targets) -> Values:
    """1 per row where the largest output is not that of the label's class, else 0."""
    return (jnp.argmax(outputs, axis=-1) != labels.astype(int)).astype(outputs.dtype)


def squared(outputs: Outputs, targets: Targets) -> Values:
    """The squared error ``||o - y||^2`` per row; raises BadInput unless rows have as many outputs as targets."""
    if outputs.size != targets.size:
        problem = f"shape {targets.shape} for outputs of shape {outputs.shape}"
        raise BadInput("targets", problem, "give as many numbers per row as the network outputs")
    difference = outputs.reshape(outputs.shape[0], -1) - targets.reshape(outputs.shape[0], -1).astype(outputs.dtype)
    return jnp.sum(difference**2, axis=1)


class Criterion(NamedTuple):
    """A function of outputs and targets that returns one number per row, as a loss or an error.

    ``classes``: whether targets are class numbers; ``slope``: whether it has a derivative, as a loss must.
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
    """Inputs (n, ...), targets (n, ...), and ``used`` (n,): 1 for rows that count, else 0."""

    inputs: Array
    targets: Array
    used: Values


class Carried(NamedTuple):
    """The arrays of a module, and its state's leaves in floating point, passed from one training step to the next."""

    arrays: Any
    state: Any


@dataclass(frozen=True, eq=False)
class Task:
    """A network with its loss and error; ``make(key)`` returns an Equinox module that takes one input of ``shape``.

    ``loss`` and ``error`` map outputs (n, ...) and targets (n, ...) to one number per row. ``prune`` says which arrays
    can be pruned, as ``what`` of :func:`gpsense.pruning.leaves.prunable`; ``whole``: whether inputs are whole numbers.
    With batch norms ``make`` returns module and state, as ``equinox.nn.make_with_state`` does; the norms' averages are
    taken over the inputs of each pass in training, and over all training inputs in a test. Other states, such as that
    of an ``equinox.nn.SpectralNorm`` or a layer of your own, are passed from step to step, and rewound with the
    weights: such parameters are :class:`Carried`. Raises BadInput for modules with arrays that are not floating point,
    states with random keys, modules that hold the same layer twice, and modules with nothing to prune.
    """

    make: Callable[[RandomKey], Any]
    shape: tuple[int, ...]
    loss: Callable[[Outputs, Targets], Values] = cross_entropy
    error: Callable[[Outputs, Targets], Values] = misclassified
    prune: What | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        _verify_make(self.make)

    @cached_property
    def still(self) -> Any:
        """The module without its arrays: functions, sizes, names."""

        def made(key: RandomKey) -> Any:
            verify_untied(module := self._made(key)[0])
            return module

        shapes = eqx.filter_eval_shape(made, jax.random.key(0))
        is_array = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
        if not any(map(is_array, leaves := jax.tree.leaves(shapes))):
            raise BadInput("make", "the network has no arrays", "return a module with weights, such as equinox.nn.MLP")
        if not callable(shapes):
            kind = "an array" if is_array(shapes) else f"a {type(shapes).__name__}"
            raise BadInput("make", f"it returns {kind}, which cannot be called", f"return {NETWORK}")
        if others := [leaf.dtype for leaf in filter(is_array, leaves) if not _is_float(leaf)]:
            whole = jnp.issubdtype(others[0], jnp.integer)
            problem = f"the network has arrays of {'whole numbers (the state of a BatchNorm?)' if whole else others[0]}"
            remedy = "return equinox.nn.make_with_state(Network)(key); other arrays must be floating-point"
            raise BadInput("make", problem, remedy)
        if not any(jax.tree.leaves(prunable(shapes, self.prune))):
            arrays = ", ".join(paths(shapes))
            if self.prune is None:
                raise BadInput("prune", "the network has no weights to prune", f"name one of its arrays, {arrays}")
            raise BadInput(
                "prune", f"{shown(self.prune)} leaves no array to prune", f"let it select at least one of {arrays}"
            )
        return eqx.partition(shapes, is_array)[1]

    @cached_property
    def stateful(self) -> bool:
        """Whether the module is called with a state."""
        return eqx.filter_eval_shape(self._made, jax.random.key(0))[1] is not None

    @cached_property
    def carried(self) -> bool:
        """Whether a state is passed from step to step, i.e. the module has state other than that of batch norms."""
        if not self.stateful:
            return False
        module, state = eqx.filter_eval_shape(self._made, jax.random.key(0))
        if any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in jax.tree.leaves(state)):
            raise BadInput("make", "the network's state holds random keys", "let the network take a key when called")
        return any(isinstance(node, eqx.nn.StateIndex) for node in _outside(module, eqx.nn.BatchNorm))

    @cached_property
    def random(self) -> bool:
        """Whether the module is called with a random key: it accepts one, and has dropout or fails without a key."""
        try:
            if "key" not in inspect.signature(self.still).parameters:
                return False
        except (TypeError, ValueError):
            return False
        nodes = jax.tree.leaves(self.still, is_leaf=lambda node: isinstance(node, eqx.nn.Dropout))
        if any(isinstance(node, eqx.nn.Dropout) and not node.inference and node.p != 0 for node in nodes):
            return True
        x = jax.ShapeDtypeStruct(self.shape, jnp.int32 if self.whole else jnp.result_type(float))

        def once(key: RandomKey, x: Array, drawn: RandomKey | None) -> Any:
            module, state = self._made(key)
            run = lambda one: self._call(_norms_of(module, call=_batch_norm), one, state, drawn)[0]  # noqa: E731
            return self._over_rows(module)(run)(x[None])

        try:
            eqx.filter_eval_shape(once, jax.random.key(0), x, None)
        except Exception:  # a network that is not ours can fail in any way
            return True
        return False

    def draw(self, key: RandomKey, dtype: Any) -> Parameters:
        """The arrays of a freshly drawn network, with None elsewhere."""
        module, state = self._made(key)
        params = eqx.filter(module, eqx.is_array)
        params = Carried(params, jax.tree.leaves(state)) if self.carried else params
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    def prunable(self, params: Parameters) -> Prunable:
        """Which arrays of ``params`` can be pruned, as a tree of booleans."""
        can = prunable(self.model(params), self.prune)
        return Carried(can, [False for _ in params.state]) if isinstance(params, Carried) else can

    def model(self, params: Parameters) -> Any:
        """The module with these arrays."""
        return eqx.combine(params.arrays if isinstance(params, Carried) else params, self.still)

    def outputs(self, params: Parameters, inputs: Array, key: RandomKey | None = None) -> Outputs:
        """Outputs for each row of inputs: batch norms average over these rows; without ``key`` dropout is off."""
        return self._passed(params, inputs, key)[0]

    def tested(self, params: Parameters, inputs: Array, known: Array) -> Outputs:
        """Outputs for each row in a test: batch norms use averages over the rows ``known``, and dropout is off."""
        if not self.stateful:
            return self.outputs(params, inputs)
        module = eqx.nn.inference_mode(self.model(params))
        state = self.averaged(params, known)
        with jax.numpy_dtype_promotion("standard"):  # Equinox's batch norm relies on it
            run = jax.vmap(lambda x: self._call(module, x, state, jax.random.key(0))[0])
            return by_products(run)(inputs)

    def averaged(self, params: Parameters, known: Array) -> Any:
        """The state after one pass over all rows ``known``: its batch-norm averages are those of these rows."""
        return self._passed(params, known, None)[1]

    def state_vector(self, params: Parameters, known: Array) -> Float[Array, " averages"]:
        """The averages of :meth:`averaged` as one vector; for :class:`Carried` parameters, all that the state holds."""
        state = self.averaged(params, known)
        leaves = self._floats(state, params) if self.carried else filter(_is_float, jax.tree.leaves(state))
        return jnp.concatenate([leaf.ravel() for leaf in leaves])

    def state_of(self, vector: Float[Array, " averages"]) -> Any:
        """The state after one pass, its averages read from a vector that :meth:`state_vector` returned."""
        shapes, start, found = eqx.filter_eval_shape(self._made, jax.random.key(0))[1], 0, []
        for leaf in jax.tree.leaves(shapes):
            told = self.carried or _is_float(leaf)
            size = leaf.size if told else 0
            part = vector[start : start + size].reshape(leaf.shape) if told else _passed_once(leaf)
            found.append(part if _is_float(leaf) else part.astype(leaf.dtype))
            start += size
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    def risk(self, params: Parameters, samples: Samples, key: RandomKey | None = None) -> Scalar:
        """Mean loss over the rows in use, as in training; without ``key`` dropout is off."""
        return _mean(self.loss(self.outputs(params, samples.inputs, key), samples.targets), samples.used)

    def trained(self, params: Carried, samples: Samples, key: RandomKey | None) -> tuple[Scalar, Any]:
        """The loss as in :meth:`risk`, in training mode, and the leaves of the state after the pass."""
        outputs, state = self._passed(params, samples.inputs, key, training=True)
        return _mean(self.loss(outputs, samples.targets), samples.used), self._floats(state, params)

    def mistakes(self, params: Parameters, samples: Samples, known: Array) -> Scalar:
        """Mean error over the rows in use, as in a test after training on the inputs ``known``."""
        return _mean(self.error(self.tested(params, samples.inputs, known), samples.targets), samples.used)

    def test_risk(self, params: Parameters, samples: Samples, known: Array) -> Scalar:
        """Mean loss over the rows in use, as in a test after training on the inputs ``known``."""
        return _mean(self.loss(self.tested(params, samples.inputs, known), samples.targets), samples.used)

    def flow(self, params: Parameters) -> Scalar:
        """Summed outputs for absolute weights, biases 0 and an input of ones: what SynFlow differentiates."""
        state = self._state(params)

        def forward(module: Any, x: Array) -> Array:
            module = gains_alone(eqx.nn.inference_mode(module))
            found = by_products(lambda x: self._call(module, x, state, jax.random.key(0))[0])(x)
            return jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(found)])

        return absolute_flow(forward, self.shape, dtype=jnp.int32 if self.whole else None)(self.model(params))

    def _made(self, key: RandomKey) -> tuple[Any, Any]:
        """A fresh module and its state, None where it has none."""
        try:
            made = self.make(key)
        except BadInput:
            raise
        except Exception as error:  # a function that is not ours can fail in any way
            problem = f"make(key) fails ({first_words(error)})"
            raise BadInput("make", problem, f"give a function of one random key that returns {NETWORK}") from error
        pair = isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], eqx.nn.State)
        return made if pair else (made, None)

    def _state(self, params: Parameters) -> Any:
        """The state of a fresh module, or of :class:`Carried` parameters, in the precision of the parameters."""
        if not self.stateful:
            return None
        kind = jnp.result_type(*jax.tree.leaves(params))
        to_kind = lambda leaf: leaf.astype(kind) if _is_float(leaf) else leaf  # noqa: E731
        if not isinstance(params, Carried):
            return jax.tree.map(to_kind, self._made(jax.random.key(0))[1])
        shapes, structure = jax.tree.flatten(eqx.filter_eval_shape(self._made, jax.random.key(0))[1])
        told = zip(shapes, jax.lax.stop_gradient(params.state), strict=True)
        leaves = [leaf if _is_float(shape) else jnp.round(leaf).astype(shape.dtype) for shape, leaf in told]
        return jax.tree.unflatten(structure, leaves)

    def _floats(self, state: Any, params: Parameters) -> list[Array]:
        """The leaves of a state in the precision of the parameters, as constants for derivatives."""
        kind = jnp.result_type(*jax.tree.leaves(params))
        return [jax.lax.stop_gradient(leaf.astype(kind)) for leaf in jax.tree.leaves(state)]

    def _call(self, module: Any, x: Array, state: Any, key: RandomKey | None) -> tuple[Any, Any]:
        """Outputs for one input, and the state after it (None if there is none)."""
        keyed = {} if key is None or not self.random else {"key": key}
        return (module(x, **keyed), None) if state is None else module(x, state, **keyed)

    def _passed(
        self, params: Parameters, inputs: Array, key: RandomKey | None, training: bool = False
    ) -> tuple[Outputs, Any]:
        """Outputs and state of a pass over rows as in training; with neither key nor ``training`` dropout is off."""
        module = self.model(params)
        if not (self.stateful or self.random):
            return by_products(jax.vmap(module))(inputs), None
        state = self._state(params)
        if key is None:
            module = module if training else eqx.nn.inference_mode(module)
            key = jax.random.key(0)
        module = _norms_of(module, call=_batch_norm)
        keys = jax.random.split(key, inputs.shape[0])
        run = lambda x, drawn: self._call(module, x, state, drawn)  # noqa: E731
        return by_products(self._over_rows(module)(run, out_axes=(0, None)))(inputs, keys)

    def _over_rows(self, module: Any) -> Callable[..., Any]:
        """``vmap`` over rows, its axis named as the module's batch norms expect."""
        names = {norm.axis_name for norm in _batch_norms(module)}
        if len(names) > 1 or not all(isinstance(name, str) for name in names):
            shown = ", ".join(sorted(map(str, names)))
            raise BadInput("make", f"its batch norms average over the axes {shown}", "give all the same axis_name")
        return partial(jax.vmap, axis_name=names.pop()) if names else jax.vmap


def _verify_make(make: Any) -> None:
    """Raises BadInput for a ``make`` that cannot be called with a key alone."""
    remedy = "write make = lambda key: ..., which returns a network with weights drawn from key"
    if not callable(make):
        raise BadInput("make", f"{shown(make)} is not a function", remedy)
    if _is_network(make):
        raise BadInput("make", f"it is a network ({type(make).__name__}), not a function that makes one", remedy)
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # compiled code has no signature
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise BadInput("make", f"it cannot be called with a key alone ({first_words(error)})", remedy) from None


def _is_network(thing: Any) -> bool:
    return isinstance(thing, eqx.Module) and any(map(eqx.is_array, jax.tree.leaves(thing)))


def first_words(error: Exception) -> str:
    """The first line of an error's message, which may be several strings."""
    in_parts = len(error.args) > 1 and all(isinstance(part, str) for part in error.args)
    return ("".join(error.args if in_parts else [str(error)]).strip() or type(error).__name__).splitlines()[0]


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _passed_once(leaf: Any) -> Array:
    """The value, after one pass, of a batch norm's count of passes, 1, or of its flag that none was made, False."""
    return jnp.full(leaf.shape, leaf.dtype != bool, leaf.dtype)


def _batch_norms(module: Any) -> list[Any]:
    is_norm = lambda node: isinstance(node, eqx.nn.BatchNorm)  # noqa: E731
    return [node for node in jax.tree.leaves(module, is_leaf=is_norm) if is_norm(node)]


def _outside(module: Any, kind: type) -> list[Any]:
    """The leaves of a module, where state indices and whole layers of class ``kind`` count as leaves."""
    stop = (kind, eqx.nn.StateIndex)
    return [node for node in jax.tree.leaves(module, is_leaf=lambda node: isinstance(node, stop))]


def _norms_of(module: Any, call: Callable[..., Any]) -> Any:
    """The module with ``call`` as the function by which its batch norms are called."""
    return called_as(module, (eqx.nn.BatchNorm,), call) if _batch_norms(module) else module


def _batch_norm(norm: Any, x: Array, state: Any, *, key: Any = None, inference: Any = None) -> tuple[Array, Any]:
    """Applies a batch norm with averages over the rows of this pass, which are all that its state holds afterwards.

    Equinox's own state would be a moving average over passes.
    """
    axes = tuple(range(1, x.ndim))
    mean = jax.lax.pmean(jnp.mean(x, axis=axes), norm.axis_name)
    wide = lambda row: row.reshape(-1, *(1,) * len(axes))  # noqa: E731
    variance = jax.lax.pmean(jnp.mean((x - wide(mean)) ** 2, axis=axes), norm.axis_name)
    share = 1.0 if norm.mode == "ema" else 1 - norm.momentum  # what Equinox divides by after one pass
    leaves, structure = jax.tree.flatten(state.substate(norm))
    rows = iter((mean * share, variance * share))
    found = [next(rows) if _is_float(leaf) else _passed_once(leaf) for leaf in leaves]
    state = state.update(jax.tree.unflatten(structure, found))
    out = (x - wide(mean)) / jnp.sqrt(wide(variance) + norm.eps)
    return (out * wide(norm.weight) + wide(norm.bias) if norm.channelwise_affine else out), state


def _mean(numbers: Values, used: Values) -> Scalar:
    return jnp.sum(jnp.where(used > 0, numbers, 0.0)) / jnp.maximum(jnp.sum(used), 1)


def perceptron(key: RandomKey, sizes: tuple[int, ...]) -> eqx.nn.Sequential:
    """Linear layers with ReLU between them; ``sizes`` go from inputs to outputs, and an input is flattened first."""
    check_key(key)
    layers: list[Any] = [eqx.nn.Lambda(jnp.ravel)]
    for place, layer_key in enumerate(jax.random.split(key, len(sizes) - 1)):
        layers += [eqx.nn.Linear(sizes[place], sizes[place + 1], key=layer_key), eqx.nn.Lambda(jax.nn.relu)]
    return eqx.nn.Sequential(layers[:-1])
