"""A system of one's own, in a file of one's own: numbers shrunk towards zero, the large ones kept.

It has a field of every kind, and is a plug-in: the tests name it on the command line.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense._types import ScalarLike
from gpsense.descent import BUDGET
from gpsense.errors import BadInput
from gpsense.fields import Field, Traced
from gpsense.systems import Learner, Measure, System

RULES = {"threshold": lambda x, cut: jnp.abs(x) > cut, "none": lambda x, cut: jnp.abs(x) >= 0}


class ToyData(Traced):
    n: ScalarLike | None = None
    noise: Annotated[ScalarLike, Field("problem", "standard deviation of the noise", at_least=0, label="noise σ")] = 0.0
    spectrum: Annotated[tuple[float, ...] | None, Field("problem", "sizes of the numbers", above=0, axis=False)] = None
    truth: Annotated[jax.Array | None, Field("problem", ".npy file with the numbers")] = None


class ToySetting(Traced):
    penalty: Annotated[ScalarLike, Field("train", "how much is taken", at_least=0, below=1, unit="1 / step")] = 0.1
    threshold: Annotated[ScalarLike | None, Field("prune", "kept above this; null: 0.5", above=0)] = None
    most: Annotated[ScalarLike, Field("prune", "numbers kept at most", at_least=1, whole=True)] = 4
    fine_tune_rate: Annotated[ScalarLike, Field("fine_tune", "how much comes back", at_most=1)] = 0.5


class Numbers(eqx.Module):
    values: Any
    steps: Any
    status: Any


class Pruned(NamedTuple):
    mask: Any


@final
@dataclass(frozen=True)
class ToyLearner(Learner[Any, ToySetting, Numbers, Pruned, Numbers]):
    """Shrinks, keeps the large ones, grows."""

    rule: str

    def start(self, problem, setting, keys):
        return Numbers(problem, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def _scaled(self, state, factor, n_steps):
        return Numbers(state.values * factor**n_steps, state.steps + n_steps, state.status)

    def train(self, problem, setting, state, n_steps):
        return self._scaled(state, 1 - setting.penalty, n_steps)

    def prune(self, problem, setting, state):
        cut = 0.5 if setting.threshold is None else setting.threshold
        return Pruned(RULES[self.rule](state.values, cut))

    def start_fine_tuning(self, problem, setting, state, pruned, width):
        return Numbers(jnp.where(pruned.mask, state.values, 0.0), jnp.zeros((), jnp.int32), state.status)

    def fine_tune(self, problem, setting, state, n_steps):
        return self._scaled(state, 1 + setting.fine_tune_rate, n_steps)

    def record(self, problem, setting, state):
        error = jnp.sum((state.values - problem) ** 2)
        return {"loss_curve": error, "error_curve": error}

    def measure(self, problem, setting, state, pruned):
        error = jnp.sum((state.values - problem) ** 2)
        return {"rank": pruned.mask.sum(), "error": error, "status": jnp.asarray(BUDGET, jnp.int32)}


@final
@dataclass(frozen=True, kw_only=True)
class Toy(System[ToyData, ToySetting, Any]):
    """Numbers shrunk towards zero, the large ones kept."""

    name: ClassVar[str] = "toy"
    Data: ClassVar[type[ToyData]] = ToyData
    Setting: ClassVar[type[ToySetting]] = ToySetting
    measures: ClassVar = {"rank": Measure("numbers kept", "numbers"), "error": Measure("squared distance")}
    table: ClassVar[tuple[str, ...]] = ("rank", "error")
    steps: ClassVar[tuple[int, int]] = (4, 2)

    dim: Annotated[int, Field("problem", "how many numbers", at_least=1, at_most=100)] = 6
    n: Annotated[int, Field("problem", "samples", at_least=1)] = 30
    rule: Annotated[str, Field("prune", "what stays", choices=RULES)] = "threshold"
    layers: Annotated[tuple[int, ...], Field("train", "not read", at_least=1, axis=False)] = (8, 4)
    hessian: Annotated[bool, Field("run", "not read")] = False
    folder: Annotated[str | None, Field("problem", "not read", axis=False)] = None
    hook: Annotated[Any, Field("problem", hidden=True)] = None

    def check(self) -> None:
        if self.dim > self.n:
            raise BadInput("dim", f"{self.dim} exceeds n {self.n}", "use a dim of at most n")

    def check_data(self, data: ToyData) -> None:
        if data.truth is not None and data.truth.shape != (self.dim,):
            raise BadInput("truth", f"its shape is {data.truth.shape}", "give dim numbers")

    def draw(self, data, key):
        if data.truth is not None:
            return jnp.asarray(data.truth)
        return jax.random.normal(key, (self.dim,), jnp.dtype(self.dtype)) + data.noise

    @property
    def learner(self) -> ToyLearner:
        return ToyLearner(self.rule)
