"""Optimizers of optax, by name or as given; the step size may be traced, so that a new one needs no compilation."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from gpsense._types import ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy

Transformation = optax.GradientTransformation
Optimizer = str | Callable[[Any], Transformation]


class Optimizers(Mapping[str, Callable[[ScalarLike, ScalarLike], Transformation]]):
    """``OPTIMIZERS[name](rate, momentum)``: gd, momentum (heavy ball), nesterov, and every alias of optax that takes a
    learning rate and needs nothing else.
    """

    own: Mapping[str, Callable[[Any, Any], Transformation]] = {
        "gd": lambda rate, momentum: optax.sgd(rate),
        "momentum": lambda rate, momentum: optax.sgd(rate, momentum=momentum),
        "nesterov": lambda rate, momentum: optax.sgd(rate, momentum=momentum, nesterov=True),
        "adam": lambda rate, momentum: optax.adam(rate),
    }

    def __getitem__(self, name: str) -> Callable[[ScalarLike, ScalarLike], Transformation]:
        if name in self.own:
            return self.own[name]
        if name not in self._aliases:
            raise KeyError(name)
        return lambda rate, momentum: getattr(optax, name)(rate)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.own, *self._aliases)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    @cached_property
    def _aliases(self) -> tuple[str, ...]:
        """Functions of optax whose first parameter is ``learning_rate`` and whose others have defaults."""
        names = []
        for name, function in vars(optax).items():
            if inspect.isfunction(function) and not name.startswith(("_", "scale_by_")):
                first, *others = [*inspect.signature(function).parameters.values(), None]
                given = [each for each in others if each is not None]
                if first is not None and first.name == "learning_rate" and all(_has_default(each) for each in given):
                    names.append(name)
        return tuple(sorted(names))


def _has_default(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is not inspect.Parameter.empty or parameter.kind in variadic


OPTIMIZERS = Optimizers()
# optimizers whose update of a number depends only on that number, its gradients and the step, not on its array
ELEMENTWISE = frozenset(
    {"gd", "momentum", "nesterov", "sgd", "sign_sgd", "lion", "rmsprop", "rprop", "yogi", "adagrad", "adadelta"}
    | {"adam", "adamax", "adamaxw", "adamw", "adan", "adabelief", "amsgrad", "radam"}
)


def build(optimizer: Optimizer, rate: ScalarLike, momentum: ScalarLike) -> Transformation:
    """The optax transformation at a step size, traced or not; only momentum and nesterov use ``momentum``.

    ``optimizer`` is a name of :data:`OPTIMIZERS` or a function of the rate. Raises BadInput for an unknown name.
    """
    if callable(optimizer):
        return optimizer(rate)
    return OPTIMIZERS[FIELD.check(optimizer)](rate, momentum)


@lru_cache(maxsize=256)
def _tried(optimizer: Optimizer) -> tuple[str, int]:
    """Why an optimizer cannot be used (empty: it can), and how many copies of the parameters its state holds."""
    number = jax.ShapeDtypeStruct((), jnp.float32)
    shapes = {"matrix": jax.ShapeDtypeStruct((2, 3), jnp.float32), "number": number}

    def step(rate: Any, momentum: Any, params: Any, gradient: Any) -> Any:
        made = optimizer(rate) if callable(optimizer) else OPTIMIZERS[optimizer](rate, momentum)
        state = made.init(params)
        updates, after = made.update(gradient, state, params)
        return updates, state, after

    try:
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, state, after = jax.eval_shape(step, number, number, shapes, shapes)
    except Exception as error:  # an optimizer that is not ours can fail in any way
        return f"it cannot take a step ({(str(error).strip() or type(error).__name__).splitlines()[0]})", 0
    if _shapes(updates) != _shapes(shapes):
        return "its updates have other shapes or types than the parameters", 0
    if _shapes(state) != _shapes(after):
        return "its state changes shape or type in a step", 0
    return "", sum(leaf.shape == (2, 3) for leaf in jax.tree.leaves(state))


def _shapes(tree: Any) -> Any:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def memories(optimizer: Optimizer) -> int:
    """How many copies of the parameters an optimizer's state holds: 0 for gd, 1 for momentum, 2 for adam."""
    return _tried(optimizer)[1]


def _verify(optimizer: Optimizer) -> None:
    if isinstance(optimizer, Transformation):
        remedy = "give a function of the rate, such as optax.adam, not optax.adam(0.01)"
        raise BadInput("optimizer", f"{type(optimizer).__name__} has its rate already", remedy)
    problem = _tried(optimizer)[0]
    if problem:
        name = optimizer if isinstance(optimizer, str) else getattr(optimizer, "__qualname__", repr(optimizer))
        remedy = "give a function of the rate that returns an optax.GradientTransformation, or a name such as gd, adam"
        raise BadInput("optimizer", f"{name}: {problem}", remedy)


Rate = Annotated[ScalarLike, Field("train", "step size", above=0, label="step size η")]
Momentum = Annotated[
    ScalarLike,
    Field(
        "train",
        "momentum coefficient; used by the optimizers momentum and nesterov",
        at_least=0,
        below=1,
        label="momentum β",
        read_by=(ReadBy("optimizer", ("momentum", "nesterov")),),
    ),
]
Tolerance = Annotated[ScalarLike, Field("train", "stop at this gradient norm", at_least=0)]
FineTuneRate = Annotated[ScalarLike | None, Field("fine_tune", "step size (null: train.rate)", above=0)]
FineTuneTolerance = Annotated[ScalarLike, Field("fine_tune", "stop at this gradient norm", at_least=0)]
FIELD = Field(
    "train",
    "gd, momentum (heavy ball), nesterov, adam or any optax optimizer that takes a learning rate",
    choices=OPTIMIZERS,
    accepts=(Callable, Transformation),  # pyright: ignore[reportArgumentType]
    verify=_verify,
    name="optimizer",
    kind="name",
)
