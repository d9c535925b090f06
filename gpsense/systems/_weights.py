"""Systems with weight (unstructured) pruning: dense training, rounds of pruning and rewinding, training of the ticket.

:class:`WeightSystem` holds the fields they share; :class:`PruneWeights` makes the phases of a cell out of a
:class:`WeightModel`: a start and a loss of any tree of arrays. Masks are chosen before training (a teacher's, at
random, by SNIP, GraSP or SynFlow) or from trained weights (by magnitude in one shot, or iteratively with rewinding).
Whatever its rule, a cell is trained before fine-tuning for as many rounds as iterative pruning would need to reach its
share of weights, so that all rules have the same number of steps. States hold all parameters of a model, and masks, as
one vector (:class:`Numbers`), which is turned into a tree where the model, a score or an optimizer reads it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, log, log1p
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from gpsense import optimizers
from gpsense._types import Flags, Integer, Parameters, RandomKey, Scalar, ScalarLike
from gpsense.descent import (
    CONVERGED,
    DIVERGED,
    RUNNING,
    Descent,
    Method,
    Rates,
    Target,
    advance_descent,
    start_descent,
)
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy, Traced
from gpsense.keys import Keys
from gpsense.optimizers import FineTuneRate, FineTuneTolerance, Momentum, Rate, Tolerance
from gpsense.pruning import weights
from gpsense.pruning.weight_scores import SCORES, WEIGHT_RULES, WeightRule, prune_in_rounds
from gpsense.pruning.weights import MaskTree, Numbers, NumbersMask, NumbersVector
from gpsense.systems._contract import DataT, Descending, Learner, Measures, ProblemT, System

NEVER = -1.0  # a tolerance that no gradient norm meets
NEAR = 1e-3  # distance from a half within which float32 and float64 may round numbers of rounds differently
ONLY_TICKETS = frozenset({"kept", "fine_tune_rate", "fine_tune_tolerance"})  # read only after training
TreeT = TypeVar("TreeT")


class Rewind(NamedTuple):
    """How kept weights are rewound: ``now`` are their trained values, ``before`` those after ``rewind_step`` steps.

    ``between(now, before)`` returns the values that the next round starts from, ``last(now, before, draw)`` those that
    training of the ticket starts from; ``draw()`` returns a fresh start.
    """

    help: str
    between: Callable[[NumbersVector, NumbersVector], NumbersVector]
    last: Callable[[NumbersVector, NumbersVector, Callable[[], NumbersVector]], NumbersVector]


REWINDS: dict[str, Rewind] = {
    "start": Rewind(
        "to their values after rewind_step steps", lambda now, before: before, lambda now, before, draw: before
    ),
    "none": Rewind("nowhere", lambda now, before: now, lambda now, before, draw: now),
    "redraw": Rewind(
        "to their earlier values between rounds, to a new draw at the end",
        lambda now, before: before,
        lambda now, before, draw: draw(),
    ),
}

Optimizer = Annotated[optimizers.Optimizer, optimizers.FIELD]
Samples = Annotated[int, Field("problem", "number of samples", at_least=1, label="samples n")]


TRAINED = ReadBy(
    "rule", tuple(n for n in WEIGHT_RULES if WEIGHT_RULES[n].trained), frozenset({*WEIGHT_RULES, "teacher"})
)
SCORED = ReadBy("rule", tuple(SCORES), TRAINED.known)


class WeightsSetting(Traced):
    """The base class of the settings: traced numbers that do not change the data."""

    kept: Annotated[
        ScalarLike | None,
        Field(
            "prune",
            "share of the weights kept; null for rules without one, such as none (keeps all) or teacher",
            above=0,
            at_most=1,
            label="share of the weights kept",
        ),
    ] = None
    share: Annotated[
        ScalarLike,
        Field(
            "prune",
            "share of the remaining weights deleted in each round of iterative pruning",
            above=0,
            below=1,
            label="share of the weights pruned in a round",
        ),
    ] = 0.2
    rate: Rate = 0.01
    last_layer: Annotated[
        ScalarLike,
        Field(
            "prune",
            "with spread layer: factor on prune.share for the last layer",
            above=0,
            at_most=1,
            label="share pruned of the last layer, over that of the others",
        ),
    ] = 1.0
    momentum: Momentum = 0.9
    tolerance: Tolerance = 0.0
    fine_tune_rate: FineTuneRate = None
    fine_tune_tolerance: FineTuneTolerance = 0.0


WeightsSettingT = TypeVar("WeightsSettingT", bound=WeightsSetting)


class Masked(Descending):
    """The state of both phases: the descent of the weights on a mask, and what else pruning needs.

    ``original``: values that weights are rewound to; ``alone``: whether the run trains the final ticket, after all
    rounds; ``aside``: the trained weights of a ticket while new random weights are trained on its mask. As both phases
    have this state, they share one compiled program where there are no rounds of pruning.
    """

    mask: NumbersMask
    original: NumbersVector
    key: RandomKey
    alone: Flags
    aside: NumbersVector | None = None


class PrunedWeights(eqx.Module):
    """The mask of the prunable weights that are kept, False for parameters that cannot be pruned."""

    mask: NumbersMask


class WeightModel(ABC, Generic[ProblemT, WeightsSettingT]):
    """What is trained and pruned: a start, a loss and an error for a tree of arrays."""

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Whether the gradient of a step differs from that on all samples, because of minibatches or dropout, say."""

    @property
    def check_every(self) -> int:
        """The number of steps between checks of a run, which use the gradient on all samples."""
        return 50 if self.stochastic else 10

    @property
    @abstractmethod
    def shapes(self) -> Parameters:
        """The tree of the weights, a ``jax.ShapeDtypeStruct`` for each array."""

    @property
    def prunable(self) -> weights.Prunable:
        """Which leaves of the tree of weights can be pruned."""
        return weights.prunable(self.shapes)

    @abstractmethod
    def start(self, problem: ProblemT, setting: WeightsSettingT, mask: MaskTree | None, key: RandomKey) -> Parameters:
        """The weights that training starts from, zero outside the mask where one is given."""

    @abstractmethod
    def loss(self, problem: ProblemT, params: Parameters) -> Scalar:
        """The loss on all samples in use."""

    def value_and_gradient(self, problem: ProblemT, params: Parameters) -> tuple[Scalar, Parameters]:
        """The loss on all samples in use, and its gradient."""
        return jax.value_and_grad(lambda tree: self.loss(problem, tree))(params)

    @abstractmethod
    def sampled_loss(self, problem: ProblemT, params: Parameters, key: RandomKey, step: Integer) -> Scalar:
        """The loss on the samples of one step, where the model is stochastic."""

    @property
    def carried(self) -> Any:
        """The mask (numbers,) of parameters that steps set without training, such as running means; None if none."""
        return None

    def sampled_gradient(self, problem: ProblemT, params: Parameters, key: RandomKey, step: Integer) -> Parameters:
        """The gradient of :meth:`sampled_loss`; for parameters that are ``carried``, their new values."""
        return jax.grad(lambda tree: self.sampled_loss(problem, tree, key, step))(params)

    @abstractmethod
    def error(self, problem: ProblemT, params: Parameters) -> Scalar:
        """The error that the results report."""

    def records(self, problem: ProblemT, params: Parameters) -> dict[str, Scalar]:
        """Further numbers recorded along the run, by names that end with ``_curve``."""
        return {}

    def succeeded(self, problem: ProblemT, setting: WeightsSettingT, params: Parameters) -> Flags | bool:
        """Whether a run may end before all its steps are made."""
        return False

    @abstractmethod
    def flow(self, params: Parameters) -> Scalar:
        """The sum of the outputs for absolute weights and an input of ones, which SynFlow differentiates."""

    def measures(self, problem: ProblemT, setting: WeightsSettingT, params: Parameters, mask: MaskTree) -> Measures:
        """Further measures of a finished cell."""
        return {}

    def given_mask(self, problem: ProblemT, setting: WeightsSettingT, key: RandomKey) -> MaskTree:
        """The mask that the model provides, for a rule that prunes by a given mask."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WeightSystem(System[DataT, WeightsSettingT, ProblemT]):
    """What the systems with weight pruning share: how weights are chosen and trained.

    ``rule``: iterative_magnitude prunes in rounds of ``round_steps`` steps and rewinds the weights after each;
    magnitude prunes trained weights at once; random, snip, grasp, movement and synflow prune before training, in
    ``score_rounds`` rounds of scoring (None: 100 for synflow, else 1); none prunes nothing.
    ``rewind``: kept weights go back to their values after ``rewind_step`` steps (start), stay as trained (none), or are
    drawn anew at the end (redraw; rewound between rounds). ``redraw_rounds``: after each round, before pruning,
    new random weights are also trained on the round's mask for ``round_steps`` steps, to show what the ticket owes to
    its initial weights. ``spread`` says what the share kept refers to: with global, all weights together; with layer,
    each layer, where the last may have its own share per round; with erk, it is divided among the layers by
    :func:`gpsense.pruning.weights.erk_shares`. ``batch``: samples drawn with replacement for each step; None: all.
    """

    rules: ClassVar[Mapping[str, WeightRule]] = WEIGHT_RULES
    steps: ClassVar[tuple[int, int]] = (3200, 200)

    rule: Annotated[
        str,
        Field(
            "prune",
            "mask chosen in rounds (iterative_magnitude), after training (magnitude) or before it (random, snip, "
            "grasp, movement, synflow), or none",
            choices=WEIGHT_RULES,
            label="pruning rule",
        ),
    ] = "iterative_magnitude"
    optimizer: Optimizer = "adam"
    round_steps: Annotated[
        int,
        Field("train", "steps in a round of iterative pruning", at_least=1, at_most=10**9, label="steps in a round"),
    ] = 200
    rewind: Annotated[
        str,
        Field(
            "prune",
            "kept weights go back to their start (start), stay as trained (none) or are drawn anew (redraw)",
            choices=REWINDS,
            label="where kept weights go back to",
            read_by=(TRAINED,),
        ),
    ] = "start"
    rewind_step: Annotated[
        int,
        Field(
            "prune",
            "rewinding restores the weights of this step of the first round",
            at_least=0,
            read_by=(TRAINED, ReadBy("rewind", known=frozenset({"none"}))),
        ),
    ] = 0
    redraw_rounds: Annotated[
        bool, Field("prune", "after each round, also train new random weights on its mask", axis=False)
    ] = False
    spread: Annotated[
        str,
        Field(
            "prune",
            "the share kept is of all weights (global), of each layer (layer), or larger in small layers (erk)",
            choices=weights.SPREADS,
            label="spread of the share over layers",
        ),
    ] = "global"
    score_rounds: Annotated[
        int | None,
        Field(
            "prune",
            "rounds of scoring, for rules that prune before training (null: 100 for synflow, else 1)",
            at_least=1,
            at_most=10**9,
            read_by=(SCORED,),
        ),
    ] = None
    batch: Annotated[
        int | None,
        Field(
            "train",
            "samples drawn with replacement for each step (null: all are used)",
            at_least=1,
            label="samples a step",
        ),
    ] = None
    n: Samples = 1000

    @property
    @abstractmethod
    def model(self) -> WeightModel[ProblemT, WeightsSettingT]:
        """What is trained and pruned."""

    @property
    def learner(self) -> "PruneWeights[ProblemT, WeightsSettingT]":
        return PruneWeights(self, self.model)

    @property
    def whole_round(self) -> int:
        """The number of steps in a round, including those that train new random weights on its mask."""
        return self.round_steps * (2 if self.redraw_rounds else 1)

    def check(self) -> None:
        if self.rewind_step >= self.round_steps:
            problem = f"step {self.rewind_step} is not in the first round of {self.round_steps} steps"
            raise BadInput("rewind_step", problem, f"use less than {self.round_steps}")
        if self.batch is not None and self.batch > self.n:
            raise BadInput("batch", f"{self.batch} of {self.n} samples", "use a batch of at most n")
        if self.redraw_rounds and self.rules[self.rule].at != "rounds":
            raise BadInput("redraw_rounds", f"rule {self.rule} has no rounds", "use rule iterative_magnitude")

    def check_schedule(self, train_steps: int, record_every: int, settings: Sequence[WeightsSettingT]) -> None:
        """Raises BadInput where records do not fit the rounds, or the steps are too few for a setting's rounds."""
        rule = self.rules[self.rule]
        if self.spread != "layer" and any(each.last_layer != 1 for each in settings):
            remedy = "set spread to layer, or leave last_layer at 1"
            raise BadInput("last_layer", f"spread {self.spread} does not use last_layer", remedy)
        if rule.score is not None and any(each.kept is None for each in settings):
            problem = f"rule {self.rule} needs the share of the weights to keep"
            raise BadInput("kept", problem, "give it, such as 0.1, or use rule none")
        apart = self.round_steps % record_every and record_every % self.round_steps
        if rule.at != "given" and train_steps and apart:
            problem = f"a record every {record_every} steps does not fit rounds of {self.round_steps} steps"
            raise BadInput("record_every", problem, f"use a multiple or a divisor of {self.round_steps}")
        rounds = max(rounds_to(1.0 if each.kept is None else each.kept, each.share) for each in settings)
        if rule.at == "rounds" and rounds * self.whole_round > train_steps:
            problem = f"{train_steps} steps, but the share kept needs {rounds} rounds of {self.whole_round}"
            raise BadInput("train_steps", problem, f"use {rounds * self.whole_round} or more")


@final
@dataclass(frozen=True)
class PruneWeights(Learner[ProblemT, WeightsSettingT, Masked, PrunedWeights, Masked]):
    """Train a model, prune its weights by the rule of a system, train the ticket."""

    system: WeightSystem[Any, WeightsSettingT, ProblemT]
    model: WeightModel[ProblemT, WeightsSettingT]

    @property
    def rule(self) -> WeightRule:
        """The pruning rule of the system."""
        return self.system.rules[self.system.rule]

    @property
    def stride(self) -> int:
        return self.method.check_every

    @property
    def numbers(self) -> Numbers:
        """The conversion between trees and the vectors that states hold."""
        return Numbers(self.model.shapes, self.model.prunable)

    @property
    def method(self) -> Method:
        """The descent method of both phases."""
        optimizer = self.system.optimizer
        if optimizer not in optimizers.ELEMENTWISE:
            optimizer = _on_trees(optimizer, self.numbers)
        check_every = min(self.model.check_every, self.system.round_steps)
        return Method(optimizer, check_every=check_every, stochastic=self.model.stochastic)

    def donates(self, width: int) -> bool:
        return True

    def shared(self, settings: Sequence[WeightsSettingT]) -> Sequence[tuple[int, int]]:
        """Settings that differ only in :data:`ONLY_TICKETS` share the training of the one with the most rounds.

        Settings that prune nothing, or whose number of rounds is half-integer up to rounding, are trained themselves.
        """
        found = [(place, 0) for place in range(len(settings))]
        if not self.rule.trained:
            return found
        groups: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
        for place, setting in enumerate(settings):
            if setting.kept is None or not setting.kept < 1:
                continue
            rounds = log(setting.kept) / log1p(-float(setting.share))
            if abs(rounds % 1 - 0.5) > NEAR:
                same = tuple(value for name, value in vars(setting).items() if name not in ONLY_TICKETS)
                steps = rounds_to(setting.kept, setting.share) * self.system.whole_round
                groups.setdefault(same, []).append((steps, place))
        for members in groups.values():
            leader = max(members, key=lambda member: member[0])[1]
            for steps, place in members:
                found[place] = (leader, steps)
        return found

    def branch(self, problem: ProblemT, setting: WeightsSettingT, state: Masked) -> Masked:
        return self._ended(setting, state)

    def start(self, problem: ProblemT, setting: WeightsSettingT, keys: Keys) -> Masked:
        """The start, pruned if the rule needs no training; DIVERGED where all scores are 0 or some are not finite."""
        start_key, mask_key = jax.random.split(keys.start)
        rule, numbers = self.rule, self.numbers
        usable = jnp.asarray(True)
        if rule.at == "given":
            mask = self.model.given_mask(problem, setting, mask_key)
            params = self.model.start(problem, setting, mask, start_key)
        else:
            params = self.model.start(problem, setting, None, start_key)
            mask = weights.everything(params)
        if rule.at == "start" and rule.score is not None:
            mask, usable = prune_in_rounds(
                rule.score,
                params,
                mask,
                self.model.prunable,
                lambda tree: self.model.loss(problem, tree),
                mask_key,
                self._shares(setting, self._kept(setting)),
                self.system.score_rounds or rule.rounds,
                self.model.flow,
                self.system.spread,
            )
        kept = numbers.vector(mask)
        vector = weights.apply(kept, numbers.vector(params))
        alone = jnp.asarray(False)
        run = start_descent(self.method, vector, _rates(setting, alone), keys.noise)
        run = eqx.tree_at(lambda r: r.status, run, jnp.where(usable, run.status, jnp.int32(DIVERGED)))
        aside = vector if self.system.redraw_rounds else None
        return self._ended(setting, Masked(run, kept, vector, keys.start, alone, aside))

    def train(self, problem: ProblemT, setting: WeightsSettingT, state: Masked, n_steps: int) -> Masked:
        """Up to ``n_steps`` more steps, in rounds; iterative pruning prunes and rewinds after each round but the last.

        A round of iterative pruning makes all its steps: a run that stopped early would not reach the next round.
        """
        system, in_rounds = self.system, self.rule.at == "rounds"
        unit = self._unit(n_steps, setting.kept is not None)

        def segment(state: Masked, _: None) -> tuple[Masked, None]:
            if in_rounds:
                state = self._round(problem, setting, state)
            if system.rewind_step and self.rule.trained:
                here = state.run.steps == system.rewind_step
                state = eqx.tree_at(lambda s: s.original, state, _where(here, state.run.factor, state.original))
            return self._advance(problem, setting, state, unit, not in_rounds), None

        if unit == n_steps:
            return segment(state, None)[0]
        return jax.lax.scan(segment, state, None, length=n_steps // unit)[0]

    def prune(self, problem: ProblemT, setting: WeightsSettingT, state: Masked) -> PrunedWeights:
        """The mask after the last pruning; for rules that prune before training, the mask they chose."""
        mask = self._cut(problem, setting, state, self._kept(setting)) if self.rule.trained else state.mask
        return PrunedWeights(mask & self.numbers.prunable)

    def start_fine_tuning(
        self, problem: ProblemT, setting: WeightsSettingT, state: Masked, pruned: PrunedWeights, width: int
    ) -> Masked:
        """The kept weights, rewound; for rules that prune before training, as trained."""
        params, numbers, alone = _trained(state), self.numbers, jnp.asarray(True)
        mask = pruned.mask | ~numbers.prunable
        if self.rule.trained:
            key = jax.random.fold_in(state.key, 2)
            draw = lambda: numbers.vector(self.model.start(problem, setting, None, key))  # noqa: E731
            params = REWINDS[self.system.rewind].last(params, state.original, draw)
        params = weights.apply(mask, params)
        run = start_descent(self.method, params, _rates(setting, alone), state.run.key)
        status = jnp.where(state.status == DIVERGED, state.status, run.status)
        return Masked(eqx.tree_at(lambda r: r.status, run, status), mask, params, state.key, alone)

    def fine_tune(self, problem: ProblemT, setting: WeightsSettingT, state: Masked, n_steps: int) -> Masked:
        return self._advance(problem, setting, state, n_steps, True)

    def trains_as_it_tunes(self, n_steps: int) -> bool:
        stays = self.rule.at != "rounds" and not (self.rule.trained and self.system.rewind_step)
        return stays and self._unit(n_steps, True) == n_steps

    def _unit(self, n_steps: int, ends: bool) -> int:
        """Steps of training between events, which are the ends of rounds, ``rewind_step``, or the end of training."""
        unit = gcd(n_steps, self.system.round_steps) if ends or self.rule.at == "rounds" else n_steps
        return gcd(unit, self.system.rewind_step) if self.rule.trained else unit

    def record(self, problem: ProblemT, setting: WeightsSettingT, state: Masked) -> dict[str, Scalar]:
        params = self.numbers.tree(state.run.factor)
        told = {"loss_curve": self.model.loss(problem, params), "error_curve": self.model.error(problem, params)}
        return told | self.model.records(problem, params)

    def measure(self, problem: ProblemT, setting: WeightsSettingT, state: Masked, pruned: PrunedWeights) -> Measures:
        numbers, norm = self.numbers, state.run.gradient_norm
        rank = pruned.mask.sum().astype(norm.dtype)
        share = rank / int(numbers.prunable.sum())
        params, mask = numbers.tree(state.run.factor), numbers.tree(state.mask)
        own = self.model.measures(problem, setting, params, mask)
        return {"rank": rank, "kept_share": share, "gradient_norm": norm} | own

    def _advance(self, problem: ProblemT, setting: WeightsSettingT, state: Masked, n_steps: int, ends: bool) -> Masked:
        """Steps on the mask; with ``ends`` a run stops at its tolerance, or when the model has ``succeeded``.

        Otherwise only numbers that are not finite stop it; checks with minibatches then skip the full gradient.
        """
        method, numbers, rates = self.method, self.numbers, _rates(setting, state.alone)
        target = self._target(problem, state.mask)
        if not ends:
            rates = eqx.tree_at(lambda r: r.tolerance, rates, NEVER)
            if method.stochastic:
                unread = lambda params: (jnp.zeros((), params.dtype), jnp.zeros_like(params))  # noqa: E731
                target = target._replace(value_and_gradient=unread)

        def block(run: Descent, length: int) -> Descent:
            run = advance_descent(method, target, run, rates, length)
            found = self.model.succeeded(problem, setting, numbers.tree(run.factor))
            there = ends & (run.status == RUNNING) & found
            return eqx.tree_at(lambda r: r.status, run, jnp.where(there, jnp.int32(CONVERGED), run.status))

        run, (whole, rest) = state.run, divmod(n_steps, method.check_every)
        if whole:
            run = jax.lax.scan(lambda r, _: (block(r, method.check_every), None), run, None, length=whole)[0]
        run = block(run, rest) if rest else run
        return self._ended(setting, eqx.tree_at(lambda s: s.run, state, run))

    def _target(self, problem: ProblemT, mask: NumbersMask) -> Target:
        """The loss as a function of masked weights, its gradient set to 0 outside the mask."""
        numbers = self.numbers

        def value_and_gradient(params: NumbersVector) -> tuple[Scalar, NumbersVector]:
            value, gradient = self.model.value_and_gradient(problem, numbers.tree(params))
            return value, weights.apply(mask, numbers.vector(gradient))

        def sampled(params: NumbersVector, key: RandomKey, step: Integer) -> NumbersVector:
            gradient = self.model.sampled_gradient(problem, numbers.tree(params), key, step)
            return weights.apply(mask, numbers.vector(gradient))

        return Target(
            value_and_gradient, sampled=sampled if self.model.stochastic else None, carried=self.model.carried
        )

    def _ended(self, setting: WeightsSettingT, state: Masked) -> Masked:
        """Ends training after ``log kept / log(1 - share)`` rounds, rounded; without ``kept`` after all steps."""
        if setting.kept is None:
            return state
        kept = self._kept(setting)
        rounds = jnp.round(jnp.log(kept) / jnp.log1p(-jnp.asarray(setting.share, kept.dtype)))
        rounds = jnp.where(kept < 1, jnp.maximum(rounds, 1), 0)
        over = ~state.alone & (state.run.steps >= rounds.astype(jnp.int32) * self.system.whole_round)
        status = jnp.where((state.status == RUNNING) & over, jnp.int32(CONVERGED), state.status)
        return eqx.tree_at(lambda s: s.run.status, state, status)

    def _round(self, problem: ProblemT, setting: WeightsSettingT, state: Masked) -> Masked:
        """Prunes and rewinds where a round other than the last has ended; the count of steps goes on."""
        system, apart = self.system, self.system.redraw_rounds
        turns, inside = jnp.divmod(state.run.steps, system.round_steps)
        rounds, second = jnp.divmod(turns, 2) if apart else (turns, 0)
        again = second == 1  # the round's ticket has been trained; next its mask, with weights drawn anew
        kept = self._kept(setting)
        share = jnp.asarray(setting.share, kept.dtype)

        def begin(carry: tuple[Flags, Masked]) -> tuple[Flags, Masked]:
            _, state = carry
            mask = self._cut(problem, setting, state, jnp.maximum(kept, (1 - share) ** rounds.astype(kept.dtype)))
            origin, aside = REWINDS[system.rewind].between(_trained(state), state.original), state.aside
            if apart:
                key = jax.random.fold_in(jax.random.fold_in(state.key, 4), rounds)
                drawn = self.numbers.vector(self.model.start(problem, setting, None, key))
                mask, origin = jnp.where(again, state.mask, mask), jnp.where(again, drawn, origin)
                aside = jnp.where(again, state.run.factor, _trained(state))
            run = start_descent(self.method, weights.apply(mask, origin), _rates(setting, state.alone), state.run.key)
            run = eqx.tree_at(lambda r: r.steps, run, state.run.steps)
            return jnp.asarray(False), Masked(run, mask, state.original, state.key, state.alone, aside)

        due = (state.status == RUNNING) & (turns > 0) & (inside == 0)
        # a loop of one turn at most: cells run side by side sort their weights only where one of them is due
        return jax.lax.while_loop(lambda carry: carry[0], begin, (due, state))[1]

    def _cut(self, problem: ProblemT, setting: WeightsSettingT, state: Masked, kept: Scalar) -> NumbersMask:
        """The mask cut to the share ``kept`` of the prunable weights, those with the highest scores."""
        score, numbers, can = self.rule.score, self.numbers, self.model.prunable
        if score is None:
            return state.mask
        params, mask = numbers.tree(_trained(state)), numbers.tree(state.mask)
        key = jax.random.fold_in(jax.random.fold_in(state.key, 3), state.run.steps)
        loss = lambda tree: self.model.loss(problem, tree)  # noqa: E731
        told = score(params, mask, loss, key, self.model.flow, can)
        return numbers.vector(weights.cut_to_share(told, can, self._shares(setting, kept), mask, self.system.spread))

    def _shares(self, setting: WeightsSettingT, kept: Scalar) -> Array:
        """The share kept of all weights or, with spread layer, of each layer (layers,).

        The last layer, the last array that can be pruned, has as many rounds as the others and so keeps
        ``kept^(log(1 - last_layer * share) / log(1 - share))``.
        """
        if self.system.spread != "layer":
            return kept
        share, part = (jnp.asarray(each, kept.dtype) for each in (setting.share, setting.last_layer))
        last = jnp.where(part == 1, kept, kept ** (jnp.log1p(-share * part) / jnp.log1p(-share)))
        count = sum(jax.tree.leaves(self.model.prunable))
        return jnp.where(np.arange(count) < count - 1, kept, last)

    def _kept(self, setting: WeightsSettingT) -> Scalar:
        """The share of the weights to keep, 1 where none is set."""
        return jnp.asarray(1.0 if setting.kept is None else setting.kept, jnp.dtype(self.system.dtype))


def _trained(state: Masked) -> NumbersVector:
    """The trained weights of a ticket, from ``aside`` where they are put aside."""
    return state.run.factor if state.aside is None else state.aside


def _rates(setting: WeightsSetting, alone: Flags) -> Rates:
    """The rates of training, or where ``alone`` those of the ticket."""
    rate = setting.rate
    if setting.fine_tune_rate is not None:
        rate = jnp.where(alone, setting.fine_tune_rate, rate)
    tolerance = jnp.where(alone, setting.fine_tune_tolerance, setting.tolerance)
    return Rates(rate, setting.momentum, tolerance, 0.0)


def rounds_to(kept: ScalarLike, share: ScalarLike) -> int:
    """The number of rounds to the share ``kept``: ``log kept / log(1 - share)`` rounded, at least 1 if kept < 1."""
    return max(round(log(kept) / log1p(-share)), int(kept < 1))


def _on_trees(optimizer: optimizers.Optimizer, numbers: Numbers) -> optimizers.Optimizer:
    """The optimizer, applied to a vector's tree, since its updates may depend on the arrays and their shapes."""

    def make(rate: Any) -> optax.GradientTransformation:
        inner = optimizers.build(optimizer, rate, 0.0)

        def init(params: Any) -> Any:
            return inner.init(numbers.tree(params))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            moves, state = inner.update(numbers.tree(updates), state, numbers.tree(params))
            return numbers.vector(moves), state

        return optax.GradientTransformation(init, update)

    return make


def _where(flag: Flags, new: TreeT, old: TreeT) -> TreeT:
    """The tree ``new`` where the flag is True, else ``old``; leaves may be random keys."""
    return jax.tree.map(lambda n, o: jnp.where(flag, n, o), new, old)
