"""What a cell of a system with input-feature pruning carries from phase to phase, and the descent of its network."""

from dataclasses import dataclass
from typing import Annotated, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense._types import Integer, RandomKey, Scalar, ScalarLike
from gpsense.descent import CONVERGED, Descent, Method, Rates, Target, advance_descent
from gpsense.fields import Field, ReadBy, Traced
from gpsense.keys import Keys
from gpsense.optimizers import FineTuneRate, FineTuneTolerance, Momentum, Rate, Tolerance
from gpsense.pruning.inputs import INPUT_RULES
from gpsense.sparse import learner
from gpsense.sparse.hermite import Activation
from gpsense.sparse.methods import BASELINES
from gpsense.sparse.network import Kept, Network
from gpsense.sparse.samples import Samples
from gpsense.systems._contract import Descending

NETWORK = ReadBy("method", ("greedy_pruning", "descent"), frozenset({"greedy_pruning", "descent", *BASELINES}))
SCORED = ReadBy("rule", ("gradient",), frozenset(INPUT_RULES))


class CoordinatesSetting(Traced):
    """Traced numbers that leave the data alone: ``contraction`` c of the shifted basis, and those of descent."""

    contraction: Annotated[
        ScalarLike,
        Field(
            "prune",
            "c of the shifted basis c e_i + sqrt(1-c^2) e_z",
            above=0,
            at_most=1,
            label="contraction c of the basis",
            read_by=(NETWORK, SCORED),
        ),
    ] = 0.5
    start_scale: Annotated[
        ScalarLike,
        Field(
            "train",
            "method descent: norm of the output weights at the start",
            above=0,
            label="scale of the start",
            read_by=(ReadBy("method", ("descent",), NETWORK.known),),
        ),
    ] = 0.3
    rate: Rate = 0.02
    momentum: Momentum = 0.9
    tolerance: Tolerance = 1e-4
    fine_tune_rate: FineTuneRate = None
    fine_tune_tolerance: FineTuneTolerance = 1e-5

    @property
    def rates(self) -> Rates:
        """Of training."""
        return Rates(self.rate, self.momentum, self.tolerance, 0.0)

    @property
    def fine_tune_rates(self) -> Rates:
        """Of fine-tuning."""
        rate = self.rate if self.fine_tune_rate is None else self.fine_tune_rate
        return Rates(rate, self.momentum, self.fine_tune_tolerance, 0.0)


class CoordinatesProblem(eqx.Module):
    """Samples to learn from, their variance, samples to test on, and the rows of V, None where there is no truth."""

    train: Samples
    variance: Scalar
    test: Samples
    truth: Float[Array, "dim r"] | None


class Untrained(eqx.Module):
    """Before pruning, where nothing is trained first: a key for what is drawn later, the errors of a network at 0."""

    key: RandomKey
    status: Integer
    steps: Integer
    loss: Scalar
    error: Scalar


class Dense(Descending):
    """Before pruning, where a network on all coordinates is trained first: a key for what is drawn later."""

    key: RandomKey


class Tuned(Descending):
    """After pruning: the network on the kept coordinates, its loss and error as it stands.

    ``aligned``: measures of its first layer against the truth, when it began.
    """

    kept: Kept
    aligned: dict[str, Scalar]
    loss: Scalar
    error: Scalar


class PrunedCoordinates(eqx.Module):
    """The coordinates that stay and how training ended.

    ``directions`` of a method without a network, from all samples and without the held-out ones; the second only where
    the second layer has something to choose by them.
    """

    mask: Bool[Array, " dim"]
    score: Float[Array, " dim"]
    status: Integer
    directions: Float[Array, "parts dim r"] | None = None


@final
@dataclass(frozen=True)
class NetworkDescent:
    """Descent of all of a network's numbers; ``silent``: it has a first layer only, its output stays 0, its error 1."""

    method: Method
    activation: Activation
    silent: bool = False

    def advance(self, problem: CoordinatesProblem, kept: Kept, run: Descent, rates: Rates, n_steps: int) -> Descent:
        """Up to ``n_steps`` more steps."""
        target = Target(lambda net: learner.loss(problem.train, kept, self.activation, net))
        return advance_descent(self.method, target, run, rates, n_steps)

    def errors(self, problem: CoordinatesProblem, kept: Kept, net: Network) -> tuple[Scalar, Scalar]:
        """Mean squared error on the samples, and the risk."""
        if self.silent:
            return problem.variance, jnp.ones((), net.intercept.dtype)
        loss = learner.mean_square(problem.train, kept, self.activation, net)
        return loss, learner.risk(problem.test, kept, self.activation, net)


def everything(problem: CoordinatesProblem) -> Kept:
    """All coordinates."""
    dim = problem.train.dim
    return Kept(jnp.arange(dim), jnp.ones((dim,), bool))


def untrained(problem: CoordinatesProblem, keys: Keys) -> Untrained:
    """The state of a learner that trains nothing before pruning."""
    one = jnp.ones((), problem.train.dtype)
    return Untrained(keys.start, jnp.int32(CONVERGED), jnp.int32(0), problem.variance, one)


def recorded(state: Untrained | Tuned) -> dict[str, Scalar]:
    """The point of the curves that a state carries."""
    return {"loss_curve": state.loss, "error_curve": state.error}
