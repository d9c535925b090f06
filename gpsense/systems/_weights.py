"""Systems pruned by single weights: dense training, rounds of pruning and rewinding, the ticket trained alone.

:class:`WeightSystem` makes the phases of the contract out of a start and a loss of any tree of arrays. Masks come
before training (of a teacher, at random, SNIP, GraSP, SynFlow) or from trained weights (magnitude in one shot, or
iteratively with rewinding). Before fine-tuning a cell trains for as many rounds as iterative pruning would take to its
share of weights, whatever its rule, so that all rules are given the same steps.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import gcd, log, log1p
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from gpsense import descent
from gpsense._types import Integer, Parameters, RandomKey, Scalar, ScalarLike
from gpsense.descent import BUDGET, CONVERGED, DIVERGED, OPTIMIZERS, RUNNING, Descent, Method, Rates, Target
from gpsense.errors import BadInput
from gpsense.keys import Keys
from gpsense.pruning import weights
from gpsense.pruning.weight_scores import SCORES, prune_by
from gpsense.systems._contract import Descending

TEACHER, MAGNITUDE, ITERATIVE, NONE = "teacher", "magnitude", "iterative_magnitude", "none"
AT_START = ("random", "snip", "grasp", "synflow")
NEVER = -1.0  # a tolerance that no gradient norm meets
SCORINGS = {"synflow": 100}  # as its authors do: at once it would delete whole layers
REWINDS = ("start", "none", "redraw")


@dataclass(frozen=True)
class WeightsSpec:
    """Static: how weights are chosen and trained.

    ``rule``: magnitude (of trained weights, at once), iterative_magnitude (in rounds of ``round_steps`` steps, weights
    rewound after each), random, snip, grasp, synflow (before training, in ``score_rounds`` scorings; None: synflow 100,
    the others 1), none.
    ``rewind``: survivors go back to where they were after ``rewind_step`` steps (start), stay (none), or are drawn anew
    at the end (redraw; rewound between rounds). ``batch``: samples drawn, with replacement, for each step; None: all.
    """

    rule: str = ITERATIVE
    optimizer: str = "adam"
    round_steps: int = 200
    rewind: str = "start"
    rewind_step: int = 0
    score_rounds: int | None = None
    batch: int | None = None
    dtype: str = "float32"


class WeightsSetting(eqx.Module):
    """Traced numbers that leave the data alone.

    ``kept``: share of the weights that stay; None: all, or as many as a teacher has. ``share``: of the remaining
    weights, what a round of iterative pruning deletes.
    """

    kept: ScalarLike | None = None
    share: ScalarLike = 0.2
    rate: ScalarLike = 0.01
    momentum: ScalarLike = 0.9
    tolerance: ScalarLike = 0.0
    fine_tune_rate: ScalarLike | None = None
    fine_tune_tolerance: ScalarLike = 0.0


class Unpruned(Descending):
    """Before the last pruning: the descent, the mask so far, the weights to rewind to, rounds done, a key."""

    mask: Any
    original: Parameters
    rounds: Integer
    key: RandomKey


class Ticket(Descending):
    """After it: the descent of what is left, its mask, and the error it began with."""

    mask: Any
    error_pruned: Scalar


class PrunedWeights(eqx.Module):
    """The prunable weights that stay, in one row and as a tree; error, steps and status of the training before."""

    mask: Bool[Array, " weights"]
    tree: Any
    error_trained: Scalar
    steps_train: Any
    status_train: Any


class WeightSystem(ABC):
    """What the systems pruned by weights share; a Spec is a :class:`WeightsSpec` with a number of samples ``n``."""

    name: ClassVar[str]
    rules: ClassVar[tuple[str, ...]] = (ITERATIVE, MAGNITUDE, *AT_START, NONE)
    steps: ClassVar[tuple[int, int]] = (3200, 200)

    @abstractmethod
    def check_data(self, spec: Any) -> None:
        """The part of :meth:`check` about the samples and the network."""

    @abstractmethod
    def start(self, spec: Any, problem: Any, setting: Any, mask: Any, key: RandomKey) -> Parameters:
        """The weights to start from, where they have been told the mask (None: none is given)."""

    @abstractmethod
    def loss(self, spec: Any, problem: Any, params: Parameters) -> Scalar:
        """The loss on all samples in use."""

    def value_and_gradient(self, spec: Any, problem: Any, params: Parameters) -> tuple[Scalar, Parameters]:
        """The loss on all samples in use, and its gradient."""
        return jax.value_and_grad(lambda tree: self.loss(spec, problem, tree))(params)

    @abstractmethod
    def sampled_loss(self, spec: Any, problem: Any, params: Parameters, key: RandomKey, step: Integer) -> Scalar:
        """The loss on the samples of one step, where it does not see all of them."""

    @abstractmethod
    def error(self, spec: Any, problem: Any, params: Parameters) -> Scalar:
        """What the system calls its error."""

    def succeeded(self, spec: Any, problem: Any, setting: Any, params: Parameters) -> Any:
        """Whether a run may end before its steps are over."""
        return False

    @abstractmethod
    def flow(self, spec: Any, problem: Any, params: Parameters) -> Scalar:
        """Sum of the outputs of the network with absolute weights on an input of ones: what SynFlow derives."""

    @abstractmethod
    def measures(self, spec: Any, problem: Any, setting: Any, state: Ticket) -> dict[str, Scalar]:
        """Further measures of a finished cell."""

    def given_mask(self, spec: Any, problem: Any, setting: Any, key: RandomKey) -> Any:
        """The mask of rule teacher."""
        raise NotImplementedError

    def stochastic(self, spec: Any) -> bool:
        """Whether a step sees some of the samples only."""
        return spec.batch is not None

    def check(self, spec: Any) -> None:
        names = {
            "prune.rule": (spec.rule, self.rules),
            "prune.rewind": (spec.rewind, REWINDS),
            "train.optimizer": (spec.optimizer, OPTIMIZERS),
        }
        for field, (name, known) in names.items():
            if name not in known:
                raise BadInput(field, f"{self.name} has no {name!r}", f"use one of {', '.join(known)}")
        if not 0 <= spec.rewind_step < spec.round_steps:
            problem = f"step {spec.rewind_step} is not in the first round of {spec.round_steps}"
            raise BadInput("prune.rewind_step", problem, "use 0 or more, and less than train.round_steps")
        self.check_data(spec)
        if spec.batch is not None and spec.batch > spec.n:
            raise BadInput("train.batch", f"{spec.batch} of {spec.n} samples", "use a batch of at most n")

    def check_schedule(self, spec: Any, train_steps: int, record_every: int, settings: list[Any]) -> None:
        """Raise BadInput where records and rounds do not fit, or iterative pruning has too few rounds for a setting."""
        if spec.rule not in (TEACHER, NONE) and any(each.kept is None for each in settings):
            problem = f"rule {spec.rule} is not told how much to keep"
            raise BadInput("prune.kept", problem, "give the share of the weights that stays, or use rule none")
        apart = spec.round_steps % record_every and record_every % spec.round_steps
        if spec.rule != TEACHER and train_steps and apart:
            problem = f"records after {record_every} steps, rounds of {spec.round_steps}"
            raise BadInput("run.record_every", problem, "use a multiple or a divisor of train.round_steps")
        rounds = max(rounds_to(1.0 if each.kept is None else each.kept, each.share) for each in settings)
        if spec.rule == ITERATIVE and rounds * spec.round_steps > train_steps:
            problem = f"{train_steps} steps, and {rounds} rounds of {spec.round_steps} to prune.kept"
            raise BadInput("train.steps", problem, f"use {rounds * spec.round_steps} or more")

    def resolve(self, spec: Any, evaluations: int) -> Any:
        return spec

    def stride(self, spec: Any) -> int:
        """A round of iterative pruning, which sorts all weights once; else the steps between judgements."""
        return spec.round_steps if spec.rule == ITERATIVE else self.method(spec).check_every

    def donates(self, spec: Any, width: int) -> bool:
        return False

    def method(self, spec: Any) -> Method:
        """The descent of both phases; minibatches are judged by all samples, which costs more, and so more rarely."""
        stochastic = self.stochastic(spec)
        return Method(spec.optimizer, check_every=50 if stochastic else 10, stochastic=stochastic)

    def begin(self, spec: Any, problem: Any, setting: Any, keys: Keys) -> Unpruned:
        """The start, and its mask where the rule needs no training."""
        start_key, mask_key = jax.random.split(keys.start)
        if spec.rule == TEACHER:
            mask = self.given_mask(spec, problem, setting, mask_key)
            params = self.start(spec, problem, setting, mask, start_key)
        else:
            params = self.start(spec, problem, setting, None, start_key)
            mask = weights.everything(params)
        if spec.rule in AT_START:
            mask = prune_by(
                SCORES[spec.rule],
                params,
                mask,
                weights.prunable(params),
                lambda tree: self.loss(spec, problem, tree),
                mask_key,
                _kept(spec, setting),
                spec.score_rounds or SCORINGS.get(spec.rule, 1),
                lambda tree: self.flow(spec, problem, tree),
            )
        params = weights.apply(mask, params)
        run = descent.begin(self.method(spec), params, self._rates(setting)[0], keys.noise)
        state = Unpruned(run, mask, params, jnp.int32(0), keys.start)
        return self._ended(spec, problem, setting, state)

    def train(self, spec: Any, problem: Any, setting: Any, state: Unpruned, n_steps: int) -> Unpruned:
        """Rounds of training; after each but the last, iterative pruning and rewinding.

        A round of iterative pruning takes all its steps: one that stopped early would keep the cell from the next.
        """
        unit, rates = n_steps, self._rates(setting)[0]
        if spec.rule == ITERATIVE or setting.kept is not None:
            unit = gcd(n_steps, spec.round_steps)
        if spec.rule in (ITERATIVE, MAGNITUDE):
            unit = gcd(unit, spec.rewind_step)
        if spec.rule == ITERATIVE:
            rates = eqx.tree_at(lambda r: r.tolerance, rates, NEVER)

        def stretch(state: Unpruned, _: None) -> tuple[Unpruned, None]:
            if spec.rule == ITERATIVE:
                state = self._round(spec, setting, state)
            if spec.rewind_step and spec.rule in (ITERATIVE, MAGNITUDE):
                here = state.run.steps == spec.rewind_step
                state = eqx.tree_at(lambda s: s.original, state, _where(here, state.run.factor, state.original))
            run = self._advance(spec, problem, setting, state.run, state.mask, rates, unit, spec.rule != ITERATIVE)
            state = eqx.tree_at(lambda s: s.run, state, run)
            return self._ended(spec, problem, setting, state), None

        if unit == n_steps:
            return stretch(state, None)[0]
        return jax.lax.scan(stretch, state, None, length=n_steps // unit)[0]

    def prune(self, spec: Any, problem: Any, setting: Any, state: Unpruned) -> PrunedWeights:
        """The last round's pruning; of rules that pruned at the start, what they left."""
        mask, params = state.mask, state.run.factor
        prunable = weights.prunable(params)
        if spec.rule in (MAGNITUDE, ITERATIVE):
            mask = _largest(params, mask, _kept(spec, setting))
        status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
        error = self.error(spec, problem, params)
        return PrunedWeights(weights.flat(mask, prunable), mask, error, state.steps, status)

    def begin_fine_tuning(
        self, spec: Any, problem: Any, setting: Any, state: Unpruned, pruned: PrunedWeights, width: int
    ) -> Ticket:
        """Survivors where they go back to; of rules that pruned at the start, where they are."""
        params = state.run.factor
        if spec.rule in (MAGNITUDE, ITERATIVE) and spec.rewind == "start":
            params = state.original
        if spec.rule in (MAGNITUDE, ITERATIVE) and spec.rewind == "redraw":
            params = self.start(spec, problem, setting, None, jax.random.fold_in(state.key, 2))
        params = weights.apply(pruned.tree, params)
        run = descent.begin(self.method(spec), params, self._rates(setting)[1], state.run.key)
        ended = pruned.status_train == DIVERGED
        run = eqx.tree_at(lambda r: r.status, run, jnp.where(ended, pruned.status_train, run.status))
        return Ticket(run, pruned.tree, self.error(spec, problem, params))

    def fine_tune(self, spec: Any, problem: Any, setting: Any, state: Ticket, n_steps: int) -> Ticket:
        run = self._advance(spec, problem, setting, state.run, state.mask, self._rates(setting)[1], n_steps, True)
        return Ticket(run, state.mask, state.error_pruned)

    def record(self, spec: Any, problem: Any, setting: Any, state: Any) -> dict[str, Scalar]:
        params = state.run.factor
        return {"loss_curve": self.loss(spec, problem, params), "error_curve": self.error(spec, problem, params)}

    def finish(self, spec: Any, problem: Any, setting: Any, state: Ticket, pruned: PrunedWeights) -> dict[str, Any]:
        params = state.run.factor
        error, loss = self.error(spec, problem, params), self.loss(spec, problem, params)
        measures = {
            "rank": pruned.mask.sum().astype(error.dtype),
            "kept_share": pruned.mask.mean(dtype=error.dtype),
            "error_trained": pruned.error_trained,
            "error_pruned": state.error_pruned,
            "error": error,
            "loss": loss,
            "gradient_norm": state.run.gradient_norm,
        }
        measures |= self.measures(spec, problem, setting, state)
        status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
        status = jnp.where(jnp.isfinite(error) & jnp.isfinite(loss), status, jnp.int32(DIVERGED))
        measures = {name: jnp.where(status == DIVERGED, jnp.nan, value) for name, value in measures.items()}
        steps = {"steps_train": pruned.steps_train, "steps_fine_tune": state.steps}
        return measures | steps | {"status_train": pruned.status_train, "status": status}

    def _advance(
        self, spec: Any, problem: Any, setting: Any, run: Descent, mask: Any, rates: Rates, n_steps: int, ends: bool
    ) -> Descent:
        """Steps on the mask; a run that ``ends`` does so where its error is that of success."""
        method, target = self.method(spec), self._target(spec, problem, mask)

        def block(run: Descent, length: int) -> Descent:
            run = descent.advance(method, target, run, rates, length)
            there = ends & (run.status == RUNNING) & self.succeeded(spec, problem, setting, run.factor)
            return eqx.tree_at(lambda r: r.status, run, jnp.where(there, jnp.int32(CONVERGED), run.status))

        whole, rest = divmod(n_steps, method.check_every)
        if whole:
            run = jax.lax.scan(lambda r, _: (block(r, method.check_every), None), run, None, length=whole)[0]
        return block(run, rest) if rest else run

    def _target(self, spec: Any, problem: Any, mask: Any) -> Target:
        """The loss as a function of weights that are already masked; its gradient stays on the mask."""

        def value_and_gradient(params: Parameters) -> tuple[Scalar, Parameters]:
            value, gradient = self.value_and_gradient(spec, problem, params)
            return value, weights.apply(mask, gradient)

        def sampled(params: Parameters, key: RandomKey, step: Integer) -> Parameters:
            gradient = jax.grad(lambda tree: self.sampled_loss(spec, problem, tree, key, step))(params)
            return weights.apply(mask, gradient)

        return Target(value_and_gradient, sampled=sampled if self.stochastic(spec) else None)

    def _ended(self, spec: Any, problem: Any, setting: Any, state: Unpruned) -> Unpruned:
        """Training ends after ``log kept / log(1 - share)`` rounds, to the nearest; without ``kept`` with the steps."""
        if setting.kept is None:
            return state
        kept = _kept(spec, setting)
        rounds = jnp.round(jnp.log(kept) / jnp.log1p(-jnp.asarray(setting.share, kept.dtype)))
        rounds = jnp.where(kept < 1, jnp.maximum(rounds, 1), 0)
        over = state.run.steps >= rounds.astype(jnp.int32) * spec.round_steps
        status = jnp.where((state.status == RUNNING) & over, jnp.int32(CONVERGED), state.status)
        return eqx.tree_at(lambda s: s.run.status, state, status)

    def _round(self, spec: Any, setting: Any, state: Unpruned) -> Unpruned:
        """Prune and rewind where a round but the last has ended; the steps go on counting."""
        rounds = state.rounds + 1
        due = (state.status == RUNNING) & (state.run.steps >= rounds * spec.round_steps)
        kept = _kept(spec, setting)
        share = jnp.asarray(setting.share, kept.dtype)
        mask = _largest(state.run.factor, state.mask, jnp.maximum(kept, (1 - share) ** rounds.astype(kept.dtype)))
        origin = state.run.factor if spec.rewind == "none" else state.original
        run = descent.begin(self.method(spec), weights.apply(mask, origin), self._rates(setting)[0], state.run.key)
        run = eqx.tree_at(lambda r: r.steps, run, state.run.steps)
        fresh = Unpruned(run, mask, state.original, rounds, state.key)
        return _where(due, fresh, state)

    def _rates(self, setting: Any) -> tuple[Rates, Rates]:
        fine_tune_rate = setting.rate if setting.fine_tune_rate is None else setting.fine_tune_rate
        return (
            Rates(setting.rate, setting.momentum, setting.tolerance, 0.0),
            Rates(fine_tune_rate, setting.momentum, setting.fine_tune_tolerance, 0.0),
        )


def rounds_to(kept: float, share: float) -> int:
    """Rounds of training to this share of the weights: ``log kept / log(1 - share)`` to the nearest, 1 if any go."""
    return max(round(log(kept) / log1p(-share)), int(kept < 1))


def _largest(params: Parameters, mask: Any, kept: Scalar) -> Any:
    """The mask cut to this share of all prunable weights, the largest."""
    prunable = weights.prunable(params)
    total = weights.flat(mask, prunable).shape[0]
    return weights.keep_largest(jax.tree.map(jnp.abs, params), mask, prunable, weights.kept_count(total, kept))


def _kept(spec: Any, setting: Any) -> Scalar:
    """The share of weights that stays."""
    return jnp.asarray(1.0 if setting.kept is None else setting.kept, jnp.dtype(spec.dtype))


def _where(flag: Any, new: Any, old: Any) -> Any:
    """``where`` over two trees, keys included."""
    return jax.tree.map(lambda n, o: jnp.where(flag, n, o), new, old)
