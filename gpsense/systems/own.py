"""Trains, prunes and fine-tunes a model of your own, whose parameters are any tree, as in arXiv 2303.11453.

Subclass :class:`TrainPruneFineTune` with methods ``draw``, ``init`` and ``loss``, or pass such functions to its ``of``.
:class:`Parts` says what is pruned: columns or rows of matrices (structured), or single weights (unstructured).
"""

import dataclasses
import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import descent, optimizers, pruning
from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.descent import DIVERGED, Method, Rates, Target
from gpsense.errors import BadInput
from gpsense.fields import INT32, Field, ReadBy, Traced, shown
from gpsense.keys import Keys
from gpsense.optimizers import FineTuneRate, FineTuneTolerance, Momentum, Rate, Tolerance
from gpsense.penalties import PENALTIES
from gpsense.pruning import COLUMN_RULES, ColumnRule, RuleInput, as_rule, verify_rule
from gpsense.pruning import weights as masks
from gpsense.pruning.columns import FIXED_RULES
from gpsense.pruning.leaves import What, prunable
from gpsense.systems._calling import call
from gpsense.systems._column_fields import COUNTED
from gpsense.systems._contract import DataT, Descending, Learner, Measure, Measures, ProblemT, System

Matrix = Float[Array, "rows parts"]
Kept = Bool[Array, " parts"]


@dataclass(frozen=True)
class Parts:
    """The parts of a model that can be pruned, as the columns of one matrix.

    ``matrix(params)`` returns that matrix (rows, parts); ``put(params, matrix)`` returns the parameters with such a
    matrix written back. ``unit``: what the parts are called, such as neurons.
    """

    matrix: Callable[[Any], Matrix]
    put: Callable[[Any, Matrix], Any]
    unit: str = "parts"


def groups(where: Callable[[Any], Any], axis: int | Sequence[int] = 1, unit: str = "parts") -> Parts:
    """Parts that are the slices of an array along ``axis``: the columns of a matrix (axis 1) or its rows (axis 0).

    ``where(params)`` returns the array, a leaf of the tree, or several arrays whose slices are pruned together, such as
    a neuron's incoming and outgoing weights; ``axis`` may then be a sequence with an axis for each. The norm of a part
    is over all its slices. ``unit``, such as inputs, names the parts in tables and figures.
    """
    if not callable(where):
        raise BadInput("where", f"{shown(where)} is not a function", "give a function of params that returns a leaf")
    several = lambda params: found if isinstance(found := where(params), tuple | list) else (found,)  # noqa: E731
    axes = lambda count: tuple(axis) if isinstance(axis, Sequence) else (axis,) * count  # noqa: E731

    def flat(leaf: Array, along: int) -> Matrix:
        return jnp.moveaxis(leaf, along, -1).reshape(-1, leaf.shape[along])

    def fits(leaf: Any, along: Any) -> bool:
        return along in range(-jnp.ndim(leaf), jnp.ndim(leaf))

    def matrix(params: Any) -> Matrix:
        leaves = several(params)
        if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
            problem = "groups(where=...): the function does not return arrays"
            raise BadInput("parts", problem, "let it return a leaf of params, or several as a tuple")
        if len(axes(len(leaves))) != len(leaves) or not all(map(fits, leaves, axes(len(leaves)))):
            shapes = ", ".join(str(jnp.shape(leaf)) for leaf in leaves)
            what = "a leaf of shape" if len(leaves) == 1 else "leaves of shapes"
            remedy = "give an axis that each leaf has (0 for a vector), or a sequence with one axis for each leaf"
            raise BadInput("parts", f"groups() has axis={shown(axis)} for {what} {shapes}", remedy)
        return jnp.concatenate([flat(*each) for each in zip(leaves, axes(len(leaves)), strict=True)])

    def put(params: Any, values: Matrix) -> Any:
        leaves, row, written = several(params), 0, []
        for leaf, along in zip(leaves, axes(len(leaves)), strict=True):
            moved = jnp.moveaxis(leaf, along, -1)
            rows = moved.size // moved.shape[-1]
            written.append(jnp.moveaxis(values[row : row + rows].reshape(moved.shape), -1, along))
            row += rows
        return eqx.tree_at(several, params, tuple(written))

    return Parts(matrix, put, unit)


def weights(prune: What | None = None) -> Parts:
    """Parts that are single weights: the entries of the leaves that :func:`gpsense.pruning.leaves.prunable` chooses.

    ``prune`` is that function's ``what``: patterns, a function or a tree that change which leaves are pruned.
    """

    def flat(params: Any) -> Matrix:
        row = masks.flat(params, prunable(params, prune))
        if not row.size:
            remedy = "give groups(lambda params: leaf, axis=0) for a vector"
            raise BadInput("parts", "weights() finds no leaf of two axes or more", remedy)
        return row[None, :]

    return Parts(flat, lambda params, row: masks.unflat(row[0], params, prunable(params, prune)), "weights")


class PipelineSetting(Traced):
    """Traced numbers that do not change the data: those of the penalty, of gradient descent and of pruning."""

    penalty: Annotated[ScalarLike, Field("train", "weight lambda of the penalty", at_least=0, label="penalty λ")] = 0.0
    smoothing: Annotated[
        ScalarLike, Field("train", "smoothing beta of the group lasso", above=0, label="smoothing β")
    ] = 0.01
    rate: Rate = 0.01
    momentum: Momentum = 0.9
    tolerance: Tolerance = 0.0
    threshold: Annotated[
        ScalarLike | None,
        Field(
            "prune",
            "parts of at most this norm are deleted (null: 2 sqrt(smoothing))",
            at_least=0,
            read_by=(ReadBy("rule", ("threshold",), FIXED_RULES),),
        ),
    ] = None
    kept: Annotated[
        ScalarLike | None,
        Field(
            "prune",
            "share of the parts kept by the rules top_r and random (null: prune.count parts)",
            above=0,
            at_most=1,
            read_by=(COUNTED,),
        ),
    ] = None
    fine_tune_rate: FineTuneRate = None
    fine_tune_tolerance: FineTuneTolerance = 0.0


class NoData(Traced):
    """A ``Data`` without fields: no number changes the data."""


@dataclass(frozen=True, kw_only=True)
class TrainPruneFineTune(System[DataT, PipelineSetting, ProblemT], Generic[DataT, ProblemT]):
    """Any model: trained on loss plus penalty, pruned by a rule, fine-tuned on the loss, as in arXiv 2303.11453.

    A subclass defines ``name``, ``parts``, :meth:`draw`, :meth:`init` and :meth:`loss`, and optionally :meth:`error`,
    static fields and a ``Data`` of its own. ``parts`` says what is pruned: :func:`groups` the columns or rows of an
    array of the parameters, :func:`weights` single weights (both in :mod:`gpsense.systems.own`), or a :class:`Parts` of
    your own. The error is the loss on the problem drawn unless :meth:`error` is overridden: for a held-out error, let
    :meth:`draw` add further samples to the problem, on which :meth:`error` is evaluated. Parameters are any tree,
    Equinox modules included.

    >>> from gpsense.systems.own import groups
    >>> def draw(key, noise=0.1):
    ...     x = jax.random.normal(key, (100, 4), jnp.float32)
    ...     return x, x[:, 0] + noise * x[:, 3]
    >>> def loss(weights, problem):
    ...     return jnp.mean((problem[0] @ weights[0] - problem[1]) ** 2)
    >>> start = lambda key: jax.random.normal(key, (1, 4), jnp.float32)
    >>> system = gpsense.TrainPruneFineTune.of(draw=draw, init=start, loss=loss, parts=groups(lambda weights: weights))
    >>> grid = gpsense.Grid(system, gpsense.Schedule(300, 100), constants={"penalty": 0.2, "noise": 0.05})
    >>> float(gpsense.run_grid(grid)["rank"].squeeze())
    1.0
    """

    Data: ClassVar[type] = NoData
    Setting: ClassVar[type[PipelineSetting]] = PipelineSetting
    parts: ClassVar[Parts]
    measures: ClassVar[Mapping[str, Measure]] = {
        "error": Measure("error"),
        "rank": Measure("parts kept by pruning", "parts"),
        "column_norms": Measure(
            "norms of the parts after training, largest first", "units of the parameters", ("column",)
        ),
        "margin": Measure("how far the mask was from changing", "units of the parameters"),
    }

    penalty_kind: Annotated[
        str, Field("train", "penalty on the parts; group_lasso is applied by proximal steps", choices=PENALTIES)
    ] = "smoothed_group_lasso"
    optimizer: Annotated[optimizers.Optimizer, optimizers.FIELD] = "adam"
    rule: Annotated[
        str | Callable[[Any, RuleInput], Any],
        Field(
            "prune",
            "threshold, top_r (the largest), largest_gap, random, relative (above a tenth of the largest)",
            choices=COLUMN_RULES,
            accepts=Callable,  # pyright: ignore[reportArgumentType]
            verify=verify_rule,
            label="pruning rule",
        ),
    ] = "threshold"
    count: Annotated[
        int,
        Field(
            "prune",
            "number of parts kept by the rules top_r and random, unless prune.kept gives a share",
            at_least=1,
            at_most=INT32,
            read_by=(COUNTED,),
        ),
    ] = 1

    def __init_subclass__(cls, **options: Any) -> None:
        """Set the words of the measures: whether the error is the loss, and what the parts are called."""
        super().__init_subclass__(**options)
        parts, declared = vars(cls).get("parts"), vars(cls).get("measures", {})
        if isinstance(parts, Parts):
            told = {"rank": Measure(f"{parts.unit} kept by pruning", parts.unit)}
            norms = cls.measures["column_norms"]
            told["column_norms"] = norms._replace(words=f"norms of the {parts.unit} after training, largest first")
            cls.measures = {**cls.measures, **told, **declared}
        if "error" not in declared:
            name = getattr(cls, "name", cls.__name__)
            own = cls.error is not TrainPruneFineTune.error
            cls.measures = {**cls.measures, "error": Measure(f"{'error' if own else 'loss'} of {name}")}

    @classmethod
    def check_class(cls) -> None:
        super().check_class()
        if not isinstance(cls.parts, Parts):
            problem = f"has parts {shown(cls.parts)}, which are not Parts"
            raise BadInput(cls.__name__, problem, "set parts = groups(where, axis) or parts = weights()")

    @abstractmethod
    def init(self, setting: Any, key: RandomKey) -> Any:
        """The parameters that training starts from."""

    @abstractmethod
    def loss(self, params: Any, problem: ProblemT) -> Scalar:
        """The loss; training minimises its sum with the penalty, fine-tuning the loss alone."""

    def error(self, params: Any, problem: ProblemT) -> Scalar:
        """The error in the results: the loss unless a subclass overrides this method."""
        return self.loss(params, problem)

    @property
    def learner(self) -> "PruneParts":
        return PruneParts(self)

    @classmethod
    def of(
        cls,
        *,
        draw: Callable[..., Any],
        init: Callable[[RandomKey], Any],
        loss: Callable[[Any, Any], Any],
        parts: Parts,
        error: Callable[[Any, Any], Any] | None = None,
        name: str = "own",
        **fields: Any,
    ) -> Self:
        """A system made of functions: ``draw(key, ...)`` returns a problem, ``init(key)`` the model's parameters.

        ``loss(params, problem)`` and ``error(params, problem)`` return a number. ``parts`` says what is pruned, as
        :func:`groups` or :func:`weights` gives it. The arguments of ``draw`` after the key, such as ``noise=0.1``,
        become the numbers of ``Data``, with the same defaults (0 if there is none); ``fields`` are static fields: rule,
        optimizer, penalty_kind, count, dtype.
        """
        if not isinstance(parts, Parts):
            raise BadInput("parts", f"{shown(parts)} is not Parts", "give groups(where, axis) or weights()")
        for field, function in (("draw", draw), ("init", init), ("loss", loss), ("error", error)):
            if function is not None and not callable(function):
                raise BadInput(field, f"{shown(function)} is not a function", "give a function")
        names = list(inspect.signature(draw).parameters.values())
        if not names:
            raise BadInput("draw", "it takes no parameter", "give a function that takes a key first")
        given = {each.name: 0.0 if each.default is each.empty else each.default for each in names[1:]}
        kind: Any = type(Traced)
        data = kind("Data", (Traced,), {"__annotations__": dict.fromkeys(given, ScalarLike), **given})
        body = {
            "name": name,
            "__doc__": inspect.getdoc(loss) or name,
            "Data": data,
            "parts": parts,
            "draw": lambda self, numbers, key: call(
                "draw", draw, (key,), {each: getattr(numbers, each) for each in given}, _fixed
            ),
            "init": lambda self, setting, key: init(key),
            "loss": lambda self, params, problem: loss(params, problem),
        }
        if error is not None:
            body["error"] = lambda self, params, problem: error(params, problem)
        made: Any = dataclasses.make_dataclass(name, [], bases=(cls,), namespace=body, frozen=True, kw_only=True)
        return made(**fields)


def _fixed(names: Sequence[str]) -> str:
    return f"fix it inside draw: lambda key: draw(key, {', '.join(f'{name}=...' for name in names)})"


class Training(Descending):
    """The state of training: the descent, and a key for a random pruning rule."""

    key: RandomKey


class FineTuning(Descending):
    """The state of fine-tuning: the descent of the pruned parameters, and the mask of the parts."""

    mask: Kept


class Decided(eqx.Module):
    """The mask of the kept parts, and what is measured of the trained parameters at the moment of pruning."""

    mask: Kept
    norms: Float[Array, " parts"]
    margin: Scalar
    coherence: Scalar
    gradient_norm_trained: Scalar


@final
@dataclass(frozen=True)
class PruneParts(Learner[Any, PipelineSetting, Training, Decided, FineTuning]):
    """Train on loss plus penalty, prune parts by the rule, fine-tune on the loss with pruned parts at zero."""

    system: TrainPruneFineTune[Any, Any]

    @property
    def method(self) -> Method:
        """The descent method of both phases."""
        return Method(self.system.optimizer)

    @property
    def stride(self) -> int:
        return self.method.check_every

    def start(self, problem: Any, setting: PipelineSetting, keys: Keys) -> Training:
        params = eqx.filter(self.system.init(setting, keys.start), eqx.is_inexact_array)
        if not jax.tree.leaves(params):
            raise BadInput("init", "it returned no floating-point array", "return a tree of parameters")
        dtype = jnp.dtype(self.system.dtype)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        run = descent.start_descent(self.method, params, self._rates(setting)[0])
        return Training(run, jax.random.fold_in(keys.start, 1))

    def train(self, problem: Any, setting: PipelineSetting, state: Training, n_steps: int) -> Training:
        target, rates = self._penalised(problem, setting), self._rates(setting)[0]
        return Training(descent.advance_descent(self.method, target, state.run, rates, n_steps), state.key)

    def prune(self, problem: Any, setting: PipelineSetting, state: Training) -> Decided:
        system, params = self.system, state.run.factor
        parts, rule = system.parts, self._rule
        matrix = parts.matrix(params)
        norms, count = pruning.column_norms(matrix), matrix.shape[1]
        threshold = pruning.default_threshold(setting.smoothing) if setting.threshold is None else setting.threshold
        rank = system.count if setting.kept is None else masks.kept_count(count, setting.kept)
        key = state.key if rule.random else None
        given = RuleInput(threshold, rank, key, jnp.ones((count,), bool))
        mask = rule.mask(norms, given)
        if mask.shape != norms.shape:
            raise BadInput("rule", f"it returned shape {mask.shape} for {count} parts", "return one boolean per part")
        penalised = self._penalised(problem, setting)
        _, gradient = penalised(params)
        return Decided(
            mask=mask,
            norms=norms,
            margin=rule.margin(norms, mask, given),
            coherence=pruning.coherence(matrix, mask) if parts.unit != "weights" else jnp.zeros((), matrix.dtype),
            gradient_norm_trained=penalised.gradient_norm(params, gradient, setting.rate),
        )

    def start_fine_tuning(
        self, problem: Any, setting: PipelineSetting, state: Training, pruned: Decided, width: int
    ) -> FineTuning:
        """The parameters with pruned parts at zero, shapes unchanged, optimizer fresh; diverged cells stay stopped."""
        parts, params = self.system.parts, state.run.factor
        params = parts.put(params, pruning.apply_mask(parts.matrix(params), pruned.mask))
        run = descent.start_descent(self.method, params, self._rates(setting)[1])
        status = jnp.where(state.status == DIVERGED, state.status, run.status)
        return FineTuning(eqx.tree_at(lambda r: r.status, run, status), pruned.mask)

    def fine_tune(self, problem: Any, setting: PipelineSetting, state: FineTuning, n_steps: int) -> FineTuning:
        """Steps on the loss; the gradient of pruned parts is zero."""
        parts, plain = self.system.parts, self._plain(problem, setting)

        def masked(params: Any) -> tuple[Scalar, Any]:
            value, gradient = plain(params)
            return value, parts.put(gradient, pruning.apply_mask(parts.matrix(gradient), state.mask))

        run = descent.advance_descent(self.method, Target(masked), state.run, self._rates(setting)[1], n_steps)
        return FineTuning(run, state.mask)

    def record(self, problem: Any, setting: PipelineSetting, state: Descending) -> dict[str, Scalar]:
        params = state.run.factor
        loss = self.system.loss(self._whole(params, setting), problem)
        return {"loss_curve": loss, "error_curve": self._error(params, problem, setting)}

    def measure(self, problem: Any, setting: PipelineSetting, state: FineTuning, pruned: Decided) -> Measures:
        loss, gradient = self._plain(problem, setting)(state.run.factor)
        matrix = self.system.parts.matrix(gradient)
        gradient = self.system.parts.put(gradient, pruning.apply_mask(matrix, pruned.mask))
        measures = {
            "rank": pruned.mask.sum().astype(loss.dtype),
            "gradient_norm_trained": pruned.gradient_norm_trained,
            "gradient_norm": descent.norm(gradient),
            "coherence": pruned.coherence,
            "margin": pruned.margin,
        }
        if self.system.parts.unit != "weights":
            measures["column_norms"] = -jnp.sort(-pruned.norms)
        return measures

    @property
    def _rule(self) -> ColumnRule:
        return as_rule(self.system.rule)

    def _rates(self, setting: PipelineSetting) -> tuple[Rates, Rates]:
        fine_tune_rate = setting.rate if setting.fine_tune_rate is None else setting.fine_tune_rate
        return (
            Rates(setting.rate, setting.momentum, setting.tolerance, 0.0),
            Rates(fine_tune_rate, setting.momentum, setting.fine_tune_tolerance, 0.0),
        )

    def _whole(self, params: Any, setting: PipelineSetting) -> Any:
        """The parameters with the leaves that are not floating-point arrays put back, such as an activation."""
        shapes = eqx.filter_eval_shape(self.system.init, setting, jax.random.key(0))
        floating = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)  # noqa: E731
        return eqx.combine(params, eqx.filter(shapes, floating, inverse=True))

    def _error(self, params: Any, problem: Any, setting: PipelineSetting) -> Scalar:
        return self.system.error(self._whole(params, setting), problem)

    def _plain(self, problem: Any, setting: PipelineSetting) -> Callable[[Any], tuple[Scalar, Any]]:
        """The loss and its gradient."""

        def value(params: Any) -> Scalar:
            loss = self.system.loss(self._whole(params, setting), problem)
            if jnp.shape(loss):
                raise BadInput("loss", f"it returned shape {shown(jnp.shape(loss))}", "return one number")
            return loss

        return jax.value_and_grad(value)

    def _penalised(self, problem: Any, setting: PipelineSetting) -> Target:
        """The objective of training: the loss plus the penalty on the parts."""
        parts, plain, penalty = self.system.parts, self._plain(problem, setting), PENALTIES[self.system.penalty_kind]
        weight, shrink = setting.penalty, penalty.proximal

        def value_and_gradient(params: Any) -> tuple[Scalar, Any]:
            value, gradient = plain(params)
            worth = lambda params: penalty.value(parts.matrix(params), setting.smoothing)  # noqa: E731
            if shrink is not None:
                return value + weight * worth(params), gradient
            extra, slope = jax.value_and_grad(worth)(params)
            return value + weight * extra, jax.tree.map(lambda g, s: g + weight * s, gradient, slope)

        if shrink is None:
            return Target(value_and_gradient)
        return Target(
            value_and_gradient,
            lambda params, rate: parts.put(params, shrink(parts.matrix(params), rate * weight)),
        )
