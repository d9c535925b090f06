"""The states of a cell with input-feature pruning in each phase, and the descent of its network."""

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
    """Traced numbers that do not change the data: those of descent, and the c of :mod:`gpsense.pruning.inputs`."""

    contraction: Annotated[
        ScalarLike,
        Field(
            "prune",
            "c in the weights c e_i + sqrt(1-c^2) e_z for scores, e_z an input of noise",
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
            "with method descent: norm of the output weights at the start",
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
        """Rates and tolerance of training."""
        return Rates(self.rate, self.momentum, self.tolerance, 0.0)

    @property
    def fine_tune_rates(self) -> Rates:
        """Rates and tolerance of fine-tuning."""
        rate = self.rate if self.fine_tune_rate is None else self.fine_tune_rate
        return Rates(rate, self.momentum, self.fine_tune_tolerance, 0.0)


class CoordinatesProblem(eqx.Module):
    """Training samples, the variance of their outputs, test samples, and the true directions V (None if unknown)."""

    train: Samples
    variance: Scalar
    test: Samples
    truth: Float[Array, "dim r"] | None


class Untrained(eqx.Module):
    """The state before pruning if nothing is trained: a key for later draws, and the zero network's loss and error."""

    key: RandomKey
    status: Integer
    steps: Integer
    loss: Scalar
    error: Scalar


class Dense(Descending):
    """The state before pruning where a network on all coordinates is trained first; it has a key for later draws."""

    key: RandomKey


class Tuned(Descending):
    """The state after pruning: the network on the kept coordinates, with its current loss and error.

    ``aligned``: measures of the network's first layer against the truth, before fine-tuning.
    """

    kept: Kept
    aligned: dict[str, Scalar]
    loss: Scalar
    error: Scalar


class PrunedCoordinates(eqx.Module):
    """The kept coordinates, the scores, and how training ended.

    ``directions``: what a method without a network found from all samples and, where a second layer is fitted, from the
    samples that are not held out.
    """

    mask: Bool[Array, " dim"]
    score: Float[Array, " dim"]
    status: Integer
    directions: Float[Array, "parts dim r"] | None = None


@final
@dataclass(frozen=True)
class NetworkDescent:
    """Descent on all parameters of a network; ``silent``: the network has a first layer only, output 0 and error 1."""

    method: Method
    activation: Activation
    silent: bool = False

    def advance(self, problem: CoordinatesProblem, kept: Kept, run: Descent, rates: Rates, n_steps: int) -> Descent:
        """Up to ``n_steps`` more steps."""
        target = Target(lambda net: learner.loss(problem.train, kept, self.activation, net))
        return advance_descent(self.method, target, run, rates, n_steps)

    def errors(self, problem: CoordinatesProblem, kept: Kept, net: Network) -> tuple[Scalar, Scalar]:
        """The mean squared error on the training samples, and the risk on the test samples."""
        if self.silent:
            return problem.variance, jnp.ones((), net.intercept.dtype)
        loss = learner.mean_square(problem.train, kept, self.activation, net)
        return loss, learner.risk(problem.test, kept, self.activation, net)


def everything(problem: CoordinatesProblem) -> Kept:
    """The selection of all coordinates."""
    dim = problem.train.dim
    return Kept(jnp.arange(dim), jnp.ones((dim,), bool))


def untrained(problem: CoordinatesProblem, keys: Keys) -> Untrained:
    """The state of a learner that trains nothing before pruning."""
    one = jnp.ones((), problem.train.dtype)
    return Untrained(keys.start, jnp.int32(CONVERGED), jnp.int32(0), problem.variance, one)


def recorded(state: Untrained | Tuned) -> dict[str, Scalar]:
    """The loss and error that a state carries, as a point of the curves."""
    return {"loss_curve": state.loss, "error_curve": state.error}
