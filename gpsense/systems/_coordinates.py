"""Systems pruned by input coordinate before they are trained: scores at the start, one step, ridge, descent.

:class:`CoordinateSystem` makes the phases of the contract out of streams of samples. A network's gradients at its start
choose the coordinates (Algorithm 1 of arXiv 2406.08658); it takes one gradient step on them, draws fresh biases and
fits its second layer by ridge (Algorithm 2); then all its numbers may be fine-tuned. What one would do instead stands
behind the same names: other rules, dense training first, methods that are no networks.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import descent
from gpsense._types import Integer, RandomKey, Scalar, ScalarLike
from gpsense.descent import BUDGET, CONVERGED, DIVERGED, OPTIMIZERS, RUNNING, Descent, Method, Rates, Target
from gpsense.errors import BadInput
from gpsense.keys import Keys
from gpsense.pruning import inputs
from gpsense.sparse import learner, network, samples
from gpsense.sparse.hermite import ACTIVATIONS
from gpsense.sparse.learner import Recipe
from gpsense.sparse.methods import BASELINES
from gpsense.sparse.moments import Moments, Sums
from gpsense.sparse.network import RESIDUALS, Kept, Network
from gpsense.sparse.samples import Samples
from gpsense.systems._contract import Cost, Descending

GREEDY, DENSE = "greedy_pruning", "descent"
RULES = ("gradient", "magnitude", "random", "oracle", "none")
SECOND_LAYERS = ("ridge", "none")
DRAWING = 300.0  # operations that drawing a number costs, about


@dataclass(frozen=True)
class CoordinatesSpec:
    """Static: how coordinates are chosen and a network is fitted to ``n`` samples, whatever they are.

    ``method``: greedy_pruning (prune at the start, then one step), descent (train densely, prune, fine-tune) or a name
    of :data:`~gpsense.sparse.methods.BASELINES`. ``rule`` that keeps coordinates: gradient (Algorithm 1), magnitude (rows of
    a dense step or of the trained weights), random, oracle (the rows of V) or none. ``pool`` M: coordinates from each
    part of the scores; magnitude and random keep 3 M. ``parity`` of the scores: both, even, odd, none, linear.
    ``biases`` of the scores are so many draws, or those given as ``bias_values``. ``neurons``: mirrored pairs.
    ``residual``: what is taken from y before the step; ``second_layer``: ridge, or none, which leaves the network at 0
    and its error at 1: for measuring the first layer alone.
    """

    n: int = 4000
    method: str = GREEDY
    rule: str = "gradient"
    pool: int = 10
    parity: str = "both"
    biases: int = 4
    bias_values: tuple[float, ...] | None = None
    activation: str = "relu"
    neurons: int = 128
    residual: str = "none"
    second_layer: str = "ridge"
    optimizer: str = "gd"
    dtype: str = "float32"


class CoordinatesSetting(eqx.Module):
    """Traced numbers that leave the data alone: ``contraction`` c of the shifted basis, and those of descent.

    ``start_scale``: norm of the output weights of a network that is trained densely; ``fine_tune_rate`` None: ``rate``.
    """

    contraction: ScalarLike = 0.5
    start_scale: ScalarLike = 0.3
    rate: ScalarLike = 0.02
    momentum: ScalarLike = 0.9
    tolerance: ScalarLike = 1e-4
    fine_tune_rate: ScalarLike | None = None
    fine_tune_tolerance: ScalarLike = 1e-5


class CoordinatesProblem(eqx.Module):
    """Samples to learn from, their variance, samples to test on, and the rows of V, None where there is no truth."""

    train: Samples
    variance: Scalar
    test: Samples
    truth: Float[Array, "dim r"] | None


class Unpruned(eqx.Module):
    """Before pruning: a key for what is drawn later, and the dense network where it is trained."""

    key: RandomKey
    status: Any
    steps: Any
    run: Descent | None


class Tuned(Descending):
    """After pruning: the network on the kept coordinates, its loss and error as it stands, and what they were at first.

    ``aligned``: measures of its first layer against the truth, when it began.
    """

    kept: Kept
    aligned: dict[str, Scalar]
    error_pruned: Scalar
    loss: Scalar
    error: Scalar


class PrunedCoordinates(eqx.Module):
    """The coordinates that stay; of a method that is no network its directions, from all samples and without the
    held-out ones; the second only where a ridge is chosen by them.
    """

    mask: Bool[Array, " dim"]
    score: Float[Array, " dim"]
    directions: Float[Array, "parts dim r"] | None
    error_trained: Scalar
    steps_train: Any
    status_train: Any


class CoordinateSystem(ABC):
    """What the systems pruned by input coordinate share; a Spec is a :class:`CoordinatesSpec` with a ``dim``."""

    name: ClassVar[str]
    steps: ClassVar[tuple[int, int]] = (0, 0)

    @abstractmethod
    def check_data(self, spec: Any) -> None:
        """The part of :meth:`check` about the samples."""

    @abstractmethod
    def data_numbers(self, spec: Any) -> tuple[int, int]:
        """Numbers that a problem holds, and those needed beside while it is drawn."""

    @abstractmethod
    def found(self, problem: Any, pruned: PrunedCoordinates) -> dict[str, Scalar]:
        """Measures of how well the kept coordinates meet those that matter."""

    @abstractmethod
    def aligned(self, columns: Float[Array, "kept columns"], truth: Any) -> dict[str, Scalar]:
        """How far the first layer's columns lie along V, given by its rows (kept, r) on the kept coordinates."""

    @abstractmethod
    def oracle(self, spec: Any, problem: Any) -> tuple[Bool[Array, " dim"], Float[Array, " dim"]]:
        """The coordinates to keep where the truth is told: mask and score."""

    @abstractmethod
    def told(self, spec: Any) -> tuple[int, int]:
        """Directions and coordinates that methods without network are told."""

    def check(self, spec: Any) -> None:
        names = {
            "train.method": (spec.method, (GREEDY, DENSE, *BASELINES)),
            "prune.rule": (spec.rule, RULES),
            "prune.parity": (spec.parity, tuple(inputs.PARITIES)),
            "train.activation": (spec.activation, tuple(ACTIVATIONS)),
            "train.residual": (spec.residual, RESIDUALS),
            "train.second_layer": (spec.second_layer, SECOND_LAYERS),
            "train.optimizer": (spec.optimizer, OPTIMIZERS),
        }
        for field, (name, known) in names.items():
            if name not in known:
                raise BadInput(field, f"{self.name} has no {name!r}", f"use one of {', '.join(known)}")
        self.check_data(spec)
        if spec.bias_values is not None and not spec.bias_values:
            raise BadInput("prune.bias_values", "the scores need a bias", "give one or more, or leave it out")
        most = spec.dim if spec.rule in ("gradient", "none", "oracle") else spec.dim // 3
        if not 1 <= spec.pool <= most:
            raise BadInput("prune.pool", f"{spec.pool} of {spec.dim} coordinates", f"use 1 to {most}")

    def resolve(self, spec: Any, evaluations: int) -> Any:
        return spec

    def traceable(self, spec: Any, sizes: dict[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        return frozenset(sizes) & {"n"}

    def describe(self, spec: Any) -> str:
        rule = (
            f"rule {spec.rule}, parity {spec.parity}, pool {spec.pool}"
            if spec.method not in BASELINES
            else "no network"
        )
        return f"{spec.method}, {rule}, dim {spec.dim}, n up to {spec.n}, {2 * spec.neurons} neurons"

    def cost(self, spec: Any) -> Cost:
        """Drawing and the products: scores or moments once, a pass over the kept coordinates in every step."""
        number, parts = jnp.dtype(spec.dtype).itemsize, len(inputs.PARITIES[spec.parity])
        biases = len(spec.bias_values or ()) or spec.biases
        dense = spec.rule == "none" or spec.method == DENSE or spec.method in BASELINES
        kept = spec.dim if dense else min(spec.dim, 3 * spec.pool)
        step = 12.0 * spec.n * kept * spec.neurons + DRAWING * spec.n * kept
        squares = {"gradient": biases * parts}.get(spec.rule, 0) if spec.method == GREEDY else 4
        once = DRAWING * spec.n * spec.dim + 2.0 * spec.n * spec.dim**2 * squares + step
        once += 4 * 8.0 * spec.n * spec.neurons**2 * (spec.second_layer == "ridge")
        features = (2 * spec.neurons + 1) ** 2 * 4
        problem, drawing = self.data_numbers(spec)
        return Cost(
            flops=step,
            problem_bytes=number * problem,
            sample_bytes=number * drawing,
            cell_bytes=number * (2 * squares * spec.dim**2 + samples.ROWS * 6 * spec.dim + features),
            kept_bytes=number * 6 * spec.dim * spec.neurons * 2,
            once=once,
        )

    def stride(self, spec: Any) -> int:
        return self._method(spec).check_every

    def donates(self, spec: Any, width: int) -> bool:
        return False

    def begin(self, spec: Any, problem: Any, setting: Any, keys: Keys) -> Unpruned:
        """Nothing but a key, or a mirrored network on all coordinates where the method trains it first."""
        if spec.method != DENSE:
            return Unpruned(keys.start, jnp.int32(CONVERGED), jnp.int32(0), None)
        dtype = jnp.dtype(spec.dtype)
        weight_key, bias_key = jax.random.split(jax.random.fold_in(keys.start, 2))
        weights = network.draw_weights(weight_key, _everything(problem), spec.neurons, dtype)
        bias = jax.random.normal(bias_key, (spec.neurons,), dtype)
        scale = jnp.asarray(setting.start_scale, dtype) / jnp.sqrt(jnp.asarray(2 * spec.neurons, dtype))
        signs = jnp.repeat(jnp.asarray([1.0, -1.0], dtype), spec.neurons)
        start = Network(
            jnp.tile(weights, (1, 2)),
            jnp.tile(bias, 2),
            signs * scale,
            jnp.zeros((spec.dim,), dtype),
            jnp.zeros((), dtype),
        )
        run = descent.begin(self._method(spec), start, _rates(setting)[0])
        return Unpruned(keys.start, run.status, run.steps, run)

    def train(self, spec: Any, problem: Any, setting: Any, state: Unpruned, n_steps: int) -> Unpruned:
        if state.run is None:
            return state
        target = self._target(spec, problem.train, _everything(problem))
        run = descent.advance(self._method(spec), target, state.run, _rates(setting)[0], n_steps)
        return Unpruned(state.key, run.status, run.steps, run)

    def prune(self, spec: Any, problem: Any, setting: Any, state: Unpruned) -> PrunedCoordinates:
        """The coordinates that stay, by the rule or as a method without network finds them."""
        directions = None
        if spec.method in BASELINES:
            directions = _baseline_directions(spec.method, problem.train, *self.told(spec), spec.second_layer != "none")
            score = jnp.sum(directions[0] ** 2, axis=1)
            mask = score > 0
        else:
            mask, score = self._rule(spec, problem, setting, state)
        error = jnp.ones((), score.dtype)
        if state.run is not None:
            error = learner.risk(problem.test, _everything(problem), ACTIVATIONS[spec.activation], state.run.factor)
        status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
        return PrunedCoordinates(mask, score, directions, error, state.steps, status)

    def begin_fine_tuning(
        self, spec: Any, problem: Any, setting: Any, state: Unpruned, pruned: PrunedCoordinates, width: int
    ) -> Tuned:
        """One step and ridge on the kept coordinates; of a network trained before, its rows there."""
        kept = network.kept_coordinates(pruned.mask, width)
        activation = ACTIVATIONS[spec.activation]
        rows = lambda matrix: jnp.where(kept.real[:, None], matrix[kept.coordinates], 0.0)  # noqa: E731
        if state.run is not None:
            whole = state.run.factor
            linear = jnp.where(kept.real, whole.linear[kept.coordinates], 0.0)
            start = eqx.tree_at(lambda net: (net.weights, net.linear), whole, (rows(whole.weights), linear))
            columns = start.weights
        else:
            recipe = Recipe(spec.neurons, activation, spec.residual, spec.second_layer)
            given = None if pruned.directions is None else jax.vmap(rows)(pruned.directions)
            start, columns = learner.fitted(problem.train, kept, recipe, jax.random.fold_in(state.key, 1), given)
        run = descent.begin(self._method(spec), start, _rates(setting)[1])
        ended = pruned.status_train == DIVERGED
        run = eqx.tree_at(lambda r: r.status, run, jnp.where(ended, pruned.status_train, run.status))
        aligned = self.aligned(columns, None if problem.truth is None else rows(problem.truth))
        error = self._risk(spec, problem, kept, start)
        return Tuned(run, kept, aligned, error, self._loss(spec, problem, kept, start), error)

    def fine_tune(self, spec: Any, problem: Any, setting: Any, state: Tuned, n_steps: int) -> Tuned:
        if self._silent(spec):
            return state
        target = self._target(spec, problem.train, state.kept)
        run = descent.advance(self._method(spec), target, state.run, _rates(setting)[1], n_steps)
        loss, error = (measure(spec, problem, state.kept, run.factor) for measure in (self._loss, self._risk))
        return Tuned(run, state.kept, state.aligned, state.error_pruned, loss, error)

    def record(self, spec: Any, problem: Any, setting: Any, state: Any) -> dict[str, Scalar]:
        if state.run is None:
            return {"loss_curve": problem.variance, "error_curve": jnp.ones((), jnp.dtype(spec.dtype))}
        if isinstance(state, Tuned):
            return {"loss_curve": state.loss, "error_curve": state.error}
        kept = _everything(problem)
        return {
            "loss_curve": self._loss(spec, problem, kept, state.run.factor),
            "error_curve": self._risk(spec, problem, kept, state.run.factor),
        }

    def finish(self, spec: Any, problem: Any, setting: Any, state: Tuned, pruned: PrunedCoordinates) -> dict[str, Any]:
        dtype = pruned.score.dtype
        measures = {
            "rank": pruned.mask.sum().astype(dtype),
            "error_trained": pruned.error_trained,
            "error_pruned": state.error_pruned,
            "error": state.error,
            "loss": state.loss,
            "selected": pruned.mask.astype(dtype),
        }
        measures |= state.aligned | self.found(problem, pruned)
        status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
        finite = jnp.isfinite(measures["error"]) & jnp.isfinite(measures["loss"])
        status = jnp.where(finite, status, jnp.int32(DIVERGED))
        measures = {name: jnp.where(status == DIVERGED, jnp.nan, value) for name, value in measures.items()}
        steps = {"steps_train": pruned.steps_train, "steps_fine_tune": state.steps}
        return measures | steps | {"status_train": pruned.status_train, "status": status}

    def _rule(
        self, spec: Any, problem: Any, setting: Any, state: Unpruned
    ) -> tuple[Bool[Array, " dim"], Float[Array, " dim"]]:
        """The mask and the scores behind it, one number a coordinate."""
        dim, activation, dtype = spec.dim, ACTIVATIONS[spec.activation], jnp.dtype(spec.dtype)
        key = jax.random.fold_in(state.key, 0)
        if spec.rule == "gradient":
            drawn = jax.random.normal(key, (spec.biases,), dtype)
            biases = drawn if spec.bias_values is None else jnp.asarray(spec.bias_values, dtype)
            found = inputs.gradient_scores(
                problem.train, biases, setting.contraction, spec.pool, activation, spec.parity
            )
            return inputs.chosen(found, spec.pool), inputs.strengths(found)
        if spec.rule == "magnitude":
            if state.run is not None:
                columns = state.run.factor.weights
            else:
                recipe = Recipe(spec.neurons, activation, second_layer="none")
                columns = learner.fitted(problem.train, _everything(problem), recipe, key).gradient
            score = jnp.sqrt(jnp.sum(columns**2, axis=1))
            return inputs.largest(score, 3 * spec.pool), score
        if spec.rule == "random":
            score = jax.random.uniform(key, (dim,), dtype)
            return inputs.largest(score, 3 * spec.pool), score
        if spec.rule == "oracle":
            return self.oracle(spec, problem)
        return jnp.ones((dim,), bool), jnp.zeros((dim,), dtype)

    def _method(self, spec: Any) -> Method:
        return Method(spec.optimizer)

    def _target(self, spec: Any, stream: Samples, kept: Kept) -> Target:
        return Target(lambda net: learner.loss(stream, kept, ACTIVATIONS[spec.activation], net))

    def _silent(self, spec: Any) -> bool:
        """Whether the network has a first layer only and stays 0."""
        return spec.second_layer == "none" and spec.method != DENSE

    def _risk(self, spec: Any, problem: Any, kept: Kept, net: Network) -> Scalar:
        if self._silent(spec):
            return jnp.ones((), net.intercept.dtype)
        return learner.risk(problem.test, kept, ACTIVATIONS[spec.activation], net)

    def _loss(self, spec: Any, problem: Any, kept: Kept, net: Network) -> Scalar:
        if self._silent(spec):
            return problem.variance
        return learner.mean_square(problem.train, kept, ACTIVATIONS[spec.activation], net)


def _everything(problem: Any) -> Kept:
    """All coordinates."""
    dim = problem.train.dim
    return Kept(jnp.arange(dim), jnp.ones((dim,), bool))


def _rates(setting: Any) -> tuple[Rates, Rates]:
    fine_tune_rate = setting.rate if setting.fine_tune_rate is None else setting.fine_tune_rate
    return (
        Rates(setting.rate, setting.momentum, setting.tolerance, 0.0),
        Rates(fine_tune_rate, setting.momentum, setting.fine_tune_tolerance, 0.0),
    )


def _baseline_directions(method: str, stream: Samples, r: int, kept: int, trial: bool) -> Float[Array, "parts dim r"]:
    """A method's directions from all samples and, where there is to be a ``trial``, from those not held out.

    A method that chooses by held-out samples never learns from them: its directions are the same twice.
    """
    baseline = BASELINES[method]

    def seen(part: Integer) -> Moments:
        start = Sums.zeros(stream.dim, stream.dtype)
        add = lambda sums, block: sums.add(block.x[: stream.dim].T, block.y, block.used)  # noqa: E731
        return samples.fold(stream.seen_as(part), add, start).moments()

    parts = [samples.FIT, samples.HELD] if baseline.holds_out else [samples.ALL, samples.FIT][: 1 + trial]
    found = jax.vmap(seen)(jnp.asarray(parts, jnp.int32))
    moments = [jax.tree.map(itemgetter(place), found) for place in range(len(parts))]
    if baseline.holds_out:
        fit, held = moments
        return jnp.stack([baseline.directions(fit, held, r, kept)] * (1 + trial))
    return jnp.stack([baseline.directions(each, each, r, kept) for each in moments])
