"""Systems with input-feature pruning: scores at the start, one gradient step, ridge regression, fine-tuning.

A problem of a :class:`CoordinateSystem` is made of streams of samples. A network's gradients at its start choose the
coordinates (Algorithm 1 of arXiv 2406.08658); the network takes one gradient step on them, draws fresh biases and fits
its second layer by ridge regression (Algorithm 2); then all its parameters may be fine-tuned. The alternatives are
learners of their own: dense training first (:data:`NETWORKS`), and methods without a network
(:data:`gpsense.sparse.methods.BASELINES`).
"""

from abc import abstractmethod
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import Integer, RandomKey, Scalar
from gpsense.descent import DIVERGED, Method, start_descent
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy
from gpsense.keys import Keys
from gpsense.optimizers import FIELD as OPTIMIZER
from gpsense.optimizers import Optimizer
from gpsense.pruning.inputs import INPUT_RULES, PARITIES, Candidates, Decided, InputRule
from gpsense.sparse import learner, network, samples
from gpsense.sparse.hermite import ACTIVATIONS, Activation, find_activation
from gpsense.sparse.learner import SECOND_LAYERS, Recipe
from gpsense.sparse.methods import BASELINES, Baseline
from gpsense.sparse.moments import Moments, Sums
from gpsense.sparse.network import RESIDUALS, Kept, Network
from gpsense.sparse.samples import Samples
from gpsense.systems._contract import Cost, DataT, Learner, Measure, Measures, StateT, System
from gpsense.systems._coordinate_phases import (
    NETWORK,
    SCORED,
    CoordinatesProblem,
    CoordinatesSetting,
    Dense,
    NetworkDescent,
    PrunedCoordinates,
    Tuned,
    Untrained,
    everything,
    recorded,
    untrained,
)

DRAWING = 300.0  # operations to draw one random number, about


@dataclass(frozen=True)
class CoordinateLearner(Learner[CoordinatesProblem, CoordinatesSetting, StateT, PrunedCoordinates, Tuned]):
    """What the learners share: fine-tuning of all parameters of a network on the kept coordinates."""

    system: "CoordinateSystem"

    @property
    def descent(self) -> NetworkDescent:
        """The descent in fine-tuning; ``silent`` where the network has no second layer."""
        system = self.system
        silent = SECOND_LAYERS[system.second_layer] is None
        return NetworkDescent(Method(system.optimizer), system.activation_function, silent)

    def tuned(
        self,
        problem: CoordinatesProblem,
        setting: CoordinatesSetting,
        kept: Kept,
        net: Network,
        columns: Float[Array, "kept columns"],
        pruned: PrunedCoordinates,
    ) -> Tuned:
        """The state that fine-tuning starts from, for a network whose first layer is in the span of ``columns``.

        A cell that has diverged before stays diverged.
        """
        run = start_descent(self.descent.method, net, setting.fine_tune_rates)
        lost = pruned.status == DIVERGED
        run = eqx.tree_at(lambda r: r.status, run, jnp.where(lost, pruned.status, run.status))
        loss, error = self.descent.errors(problem, kept, net)
        return Tuned(run, kept, self.system.measure_layer(problem, kept, columns), loss, error)

    def fine_tune(self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Tuned, n_steps: int) -> Tuned:
        if self.descent.silent:
            return state
        run = self.descent.advance(problem, state.kept, state.run, setting.fine_tune_rates, n_steps)
        loss, error = self.descent.errors(problem, state.kept, run.factor)
        return Tuned(run, state.kept, state.aligned, loss, error)

    def measure(
        self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Tuned, pruned: PrunedCoordinates
    ) -> Measures:
        dtype = pruned.score.dtype
        measures = {"rank": pruned.mask.sum().astype(dtype), "selected": pruned.mask.astype(dtype)}
        return measures | state.aligned | self.system.measure_kept(problem, pruned)


@final
@dataclass(frozen=True)
class PruneAtStart(CoordinateLearner[Untrained]):
    """Chooses coordinates at the start, takes one step on them and fits the second layer (Algorithms 1 and 2)."""

    def start(self, problem: CoordinatesProblem, setting: CoordinatesSetting, keys: Keys) -> Untrained:
        return untrained(problem, keys)

    def train(
        self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Untrained, n_steps: int
    ) -> Untrained:
        return state

    def prune(self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Untrained) -> PrunedCoordinates:
        key = jax.random.fold_in(state.key, 0)
        recipe = Recipe(self.system.neurons, self.system.activation_function, second_layer="none")
        step = lambda: learner.fit(problem.train, everything(problem), recipe, key).gradient  # noqa: E731
        mask, score = self.system.decide(problem, setting, key, step)
        return PrunedCoordinates(mask, score, state.status)

    def start_fine_tuning(
        self,
        problem: CoordinatesProblem,
        setting: CoordinatesSetting,
        state: Untrained,
        pruned: PrunedCoordinates,
        width: int,
    ) -> Tuned:
        """The network on the kept coordinates: one gradient step on its first layer, then a fit of its second layer."""
        kept = network.kept_coordinates(pruned.mask, width)
        net, columns = learner.fit(problem.train, kept, self.system.recipe, jax.random.fold_in(state.key, 1))
        return self.tuned(problem, setting, kept, net, columns, pruned)

    def record(
        self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Untrained | Tuned
    ) -> dict[str, Scalar]:
        return recorded(state)


@final
@dataclass(frozen=True)
class DenseDescent(CoordinateLearner[Dense]):
    """Dense training of a mirrored network on all coordinates, then fine-tuning on those that the rule keeps."""

    @property
    def descent(self) -> NetworkDescent:
        """The descent before and after pruning, which also trains the second layer."""
        return NetworkDescent(Method(self.system.optimizer), self.system.activation_function)

    def start(self, problem: CoordinatesProblem, setting: CoordinatesSetting, keys: Keys) -> Dense:
        neurons, dtype = self.system.neurons, problem.train.dtype
        weight_key, bias_key = jax.random.split(jax.random.fold_in(keys.start, 2))
        weights = network.draw_weights(weight_key, everything(problem), neurons, dtype)
        bias = jax.random.normal(bias_key, (neurons,), dtype)
        scale = jnp.asarray(setting.start_scale, dtype) / jnp.sqrt(jnp.asarray(2 * neurons, dtype))
        signs = jnp.repeat(jnp.asarray([1.0, -1.0], dtype), neurons)
        linear = jnp.zeros((problem.train.dim,), dtype)
        net = Network(jnp.tile(weights, (1, 2)), jnp.tile(bias, 2), signs * scale, linear, jnp.zeros((), dtype))
        return Dense(start_descent(self.descent.method, net, setting.rates), keys.start)

    def train(self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Dense, n_steps: int) -> Dense:
        run = self.descent.advance(problem, everything(problem), state.run, setting.rates, n_steps)
        return Dense(run, state.key)

    def prune(self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Dense) -> PrunedCoordinates:
        key = jax.random.fold_in(state.key, 0)
        mask, score = self.system.decide(problem, setting, key, lambda: state.run.factor.weights)
        return PrunedCoordinates(mask, score, state.status)

    def start_fine_tuning(
        self,
        problem: CoordinatesProblem,
        setting: CoordinatesSetting,
        state: Dense,
        pruned: PrunedCoordinates,
        width: int,
    ) -> Tuned:
        """The trained network, its first layer and linear part restricted to the kept coordinates."""
        kept = network.kept_coordinates(pruned.mask, width)
        whole = state.run.factor
        rows = network.rows_of(kept, whole.weights), network.rows_of(kept, whole.linear[:, None])[:, 0]
        net = eqx.tree_at(lambda net: (net.weights, net.linear), whole, rows)
        return self.tuned(problem, setting, kept, net, net.weights, pruned)

    def record(
        self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Dense | Tuned
    ) -> dict[str, Scalar]:
        if isinstance(state, Tuned):
            return recorded(state)
        loss, error = self.descent.errors(problem, everything(problem), state.run.factor)
        return {"loss_curve": loss, "error_curve": error}


@final
@dataclass(frozen=True)
class MomentMethod(CoordinateLearner[Untrained]):
    """Finds directions without a network; a network with random combinations of them as weights is then fitted."""

    baseline: Baseline

    def start(self, problem: CoordinatesProblem, setting: CoordinatesSetting, keys: Keys) -> Untrained:
        return untrained(problem, keys)

    def train(
        self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Untrained, n_steps: int
    ) -> Untrained:
        return state

    def prune(self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Untrained) -> PrunedCoordinates:
        """Keeps the coordinates whose rows of the directions are not 0."""
        directions = self._directions(problem.train)
        score = jnp.sum(directions[0] ** 2, axis=1)
        return PrunedCoordinates(score > 0, score, state.status, directions)

    def _directions(self, stream: Samples) -> Float[Array, "parts dim r"]:
        """The directions found from all samples and, where a second layer is fitted, also from those not held out.

        The penalty of a baseline, if any, is chosen once, on the held-out samples, and used for both.
        """
        choose, (r, kept) = self.baseline.choose, self.system.oracle_sizes
        count = 1 if self.descent.silent else 2

        def seen(part: Integer) -> Moments:
            start = Sums.zeros(stream.dim, stream.dtype)
            add = lambda sums, block: sums.add(block.x[: stream.dim].T, block.y, block.used)  # noqa: E731
            return samples.fold(stream.seen_as(part), add, start).moments()

        parts = [samples.ALL, samples.FIT, samples.HELD][: count if choose is None else 3]
        found = jax.vmap(seen)(jnp.asarray(parts, jnp.int32))
        moments = [jax.tree.map(itemgetter(place), found) for place in range(len(parts))]
        penalty = jnp.zeros((), stream.dtype) if choose is None else choose(moments[1], moments[2])
        return jnp.stack([self.baseline.directions(each, penalty, r, kept) for each in moments[:count]])

    def start_fine_tuning(
        self,
        problem: CoordinatesProblem,
        setting: CoordinatesSetting,
        state: Untrained,
        pruned: PrunedCoordinates,
        width: int,
    ) -> Tuned:
        """A network with combinations of the directions as weights and a fitted second layer."""
        assert pruned.directions is not None
        kept = network.kept_coordinates(pruned.mask, width)
        given = jax.vmap(partial(network.rows_of, kept))(pruned.directions)
        key = jax.random.fold_in(state.key, 1)
        net, columns = learner.fit(problem.train, kept, self.system.recipe, key, given)
        return self.tuned(problem, setting, kept, net, columns, pruned)

    def record(
        self, problem: CoordinatesProblem, setting: CoordinatesSetting, state: Untrained | Tuned
    ) -> dict[str, Scalar]:
        return recorded(state)


@dataclass(frozen=True)
class CoordinateMethod:
    """A learner of a system, and what must be known about it before anything is drawn.

    ``products``: the number of passes over the samples before pruning, of n dim^2 multiplications each; None: as many
    as the pruning rule makes, for a method that prunes before training. ``network``: whether it uses pool and rule.
    """

    learner: Callable[["CoordinateSystem"], CoordinateLearner[Any]]
    products: int | None = None
    network: bool = True


NETWORKS: dict[str, CoordinateMethod] = {
    "greedy_pruning": CoordinateMethod(PruneAtStart),
    "descent": CoordinateMethod(DenseDescent, products=4),
}
METHODS = ChainMap[str, Any](BASELINES, NETWORKS)  # by name, the networks first
RULE_WORDS = ", ".join(f"{name} ({rule.words})" for name, rule in INPUT_RULES.items())
POOL = Field(
    "prune",
    "number M of coordinates kept by each score; rules magnitude and random keep 3 M",
    at_least=1,
    label="coordinates M from each part",
    read_by=(NETWORK, ReadBy("rule", known=frozenset({"none"}))),
)


@dataclass(frozen=True, kw_only=True)
class CoordinateSystem(System[DataT, CoordinatesSetting, CoordinatesProblem]):
    """What the systems with input-feature pruning share: how coordinates are chosen and a network is fitted."""

    Setting: ClassVar[type[CoordinatesSetting]] = CoordinatesSetting
    revision: ClassVar[int | str] = 2
    steps: ClassVar[tuple[int, int]] = (0, 0)
    measures: ClassVar[Mapping[str, Measure]] = {
        "rank": Measure("coordinates kept", "coordinates"),
        "selected": Measure("1 for a coordinate that was kept", "1", ("coordinate",)),
    }

    n: int
    method: Annotated[
        str,
        Field(
            "train",
            "greedy_pruning (prune, then one step), descent (train, then prune); without a network: "
            + ", ".join(BASELINES),
            choices=METHODS,
        ),
    ] = "greedy_pruning"
    rule: Annotated[
        str | Callable[[Candidates], Decided],
        Field(
            "prune",
            f"which coordinates are kept: {RULE_WORDS}",
            choices=INPUT_RULES,
            accepts=Callable,  # pyright: ignore[reportArgumentType]
            label="pruning rule",
            read_by=(NETWORK,),
        ),
    ] = "gradient"
    pool: Annotated[int, POOL] = 10
    parity: Annotated[
        str,
        Field(
            "prune",
            "parts of the activation to score by: even, odd, both, none (the whole), linear (along e_z alone)",
            choices=PARITIES,
            label="parts of the scores",
            read_by=(NETWORK, SCORED),
        ),
    ] = "both"
    biases: Annotated[
        int, Field("prune", "number of biases drawn for the scores", at_least=1, read_by=(NETWORK, SCORED))
    ] = 4
    bias_values: Annotated[
        tuple[float, ...] | None,
        Field(
            "prune",
            "the biases for the scores, instead of drawn ones",
            axis=False,
            read_by=(NETWORK, SCORED),
        ),
    ] = None
    activation: Annotated[
        str | Callable[[Array], Array],
        Field(
            "train",
            "activation of the neurons",
            choices=ACTIVATIONS,
            accepts=Callable,  # pyright: ignore[reportArgumentType]
        ),
    ] = "relu"
    neurons: Annotated[int, Field("train", "mirrored pairs of neurons", at_least=1, label="neurons")] = 128
    residual: Annotated[
        str,
        Field(
            "train",
            "linear fit subtracted from y before the step: none, mean (E[y x]) or ols",
            choices=RESIDUALS,
            read_by=(ReadBy("method", known=frozenset({"descent"})),),
        ),
    ] = "none"
    second_layer: Annotated[
        str,
        Field(
            "train",
            "fitted by ridge, or none (only the first layer is measured; error 1)",
            choices=SECOND_LAYERS,
            label="second layer",
            read_by=(ReadBy("method", known=frozenset({"descent"})),),
        ),
    ] = "ridge"
    optimizer: Annotated[Optimizer, OPTIMIZER] = "gd"

    @property
    @abstractmethod
    def n_coordinates(self) -> int:
        """The number of input coordinates, including those of noise."""

    @property
    @abstractmethod
    def oracle_sizes(self) -> tuple[int, int]:
        """The numbers of directions and of coordinates that matter, which baselines may be given."""

    @abstractmethod
    def oracle(self, problem: CoordinatesProblem) -> Decided:
        """The coordinates that matter, as a mask, and their scores."""

    @abstractmethod
    def measure_kept(self, problem: CoordinatesProblem, pruned: PrunedCoordinates) -> dict[str, Scalar]:
        """Measures of how well the kept coordinates agree with those that matter."""

    @abstractmethod
    def data_numbers(self) -> tuple[int, int]:
        """How many numbers a problem holds, and how many more are needed while it is drawn."""

    def measure_layer(
        self, problem: CoordinatesProblem, kept: Kept, columns: Float[Array, "kept columns"]
    ) -> dict[str, Scalar]:
        """Measures of how much of the first layer is in the span of the true directions V; {} if V is not known."""
        return {}

    def check(self) -> None:
        most = self.input_rule.most_pool(self.n_coordinates)
        if self.pool > most:
            raise BadInput("pool", f"{self.pool} of {self.n_coordinates} coordinates", f"use 1 to {most}")

    @property
    def learner(self) -> CoordinateLearner[Any]:
        return self.coordinate_method.learner(self)

    @property
    def coordinate_method(self) -> CoordinateMethod:
        """The method or baseline that ``method`` names."""
        baseline = BASELINES.get(self.method)
        if baseline is None:
            return NETWORKS[self.method]
        return CoordinateMethod(partial(MomentMethod, baseline=baseline), products=4, network=False)

    @property
    def input_rule(self) -> InputRule:
        """The pruning rule, looked up by name or made of the function given."""
        return InputRule(self.rule) if callable(self.rule) else INPUT_RULES[self.rule]

    @property
    def activation_function(self) -> Activation:
        """The activation, looked up by name or as given."""
        return find_activation(self.activation)

    @property
    def recipe(self) -> Recipe:
        """How a network is fitted to the kept coordinates."""
        return Recipe(self.neurons, self.activation_function, self.residual, self.second_layer)

    def decide(
        self,
        problem: CoordinatesProblem,
        setting: CoordinatesSetting,
        key: RandomKey,
        columns: Callable[[], Float[Array, "dim columns"]],
    ) -> Decided:
        """The rule's mask and scores; ``columns()`` returns a first layer on all coordinates, if a rule needs one."""
        dtype = problem.train.dtype
        drawn = jax.random.normal(key, (self.biases,), dtype)
        candidates = Candidates(
            samples=problem.train,
            key=key,
            pool=self.pool,
            parity=self.parity,
            contraction=setting.contraction,
            biases=drawn if self.bias_values is None else jnp.asarray(self.bias_values, dtype),
            activation=self.activation_function,
            columns=columns,
            oracle=lambda: self.oracle(problem),
        )
        return self.input_rule.decide(candidates)

    def traceable(self, sizes: Mapping[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        return frozenset(sizes) & {"n"}

    def describe(self) -> str:
        rule = f"rule {self.rule}, parity {self.parity}, pool {self.pool}"
        rule = rule if self.coordinate_method.network else "no network"
        return f"{self.method}, {rule}, dim {self.n_coordinates}, n up to {self.n}, {2 * self.neurons} neurons"

    def cost(self) -> Cost:
        """The cost of draws and products: once for scores or moments, and in each step for the kept coordinates."""
        number, dim = jnp.dtype(self.dtype).itemsize, self.n_coordinates
        rule, products = self.input_rule, self.coordinate_method.products
        kept = dim if rule.everything or products is not None else min(dim, 3 * self.pool)
        if products is None:
            biases = len(self.bias_values or ()) or self.biases
            products = rule.products(biases, len(PARITIES[self.parity].parts))
        step = 12.0 * self.n * kept * self.neurons + DRAWING * self.n * kept
        once = DRAWING * self.n * dim + 2.0 * self.n * dim**2 * products + step
        once += 4 * 8.0 * self.n * self.neurons**2 * (SECOND_LAYERS[self.second_layer] is not None)
        features = (2 * self.neurons + 1) ** 2 * 4
        problem, drawing = self.data_numbers()
        return Cost(
            flops=step,
            problem_bytes=number * problem,
            sample_bytes=number * drawing,
            cell_bytes=number * (2 * products * dim**2 + samples.ROWS * 6 * dim + features),
            kept_bytes=number * 6 * dim * self.neurons * 2,
            once=once,
        )
