"""Systems with column-wise (structured) pruning: training with a penalty, deleting columns of small norm, fine-tuning.

:class:`ColumnSystem` declares what they share. A cell is run by :class:`PruneColumns`, or by :class:`RunBaseline` where
``method`` names a baseline in place of greedy pruning.
"""

from abc import abstractmethod
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense import descent, optimizers, pruning
from gpsense._linalg import singular_values
from gpsense._types import Factor, Integer, Mask, Norms, RandomKey, Scalar, ScalarLike
from gpsense.descent import DIVERGED, Descent, Method, Rates, Target, ended
from gpsense.errors import BadInput
from gpsense.fields import INT32, Field, ReadBy
from gpsense.keys import Keys
from gpsense.penalties import PENALTIES
from gpsense.pruning import COLUMN_RULES, ROTATIONS, ColumnRule, RuleInput, as_rule, verify_rule
from gpsense.sensing import methods
from gpsense.sensing.losses import Empirical, Later, Objective
from gpsense.sensing.measurements import Ensemble
from gpsense.sensing.methods import BASELINES, Baseline, Run
from gpsense.sensing.symmetric import packed_size
from gpsense.stationarity import Smallest, certificate
from gpsense.systems._column_fields import GREEDY, PRUNED, STARTS, ColumnSetting
from gpsense.systems._contract import Cost, DataT, Learner, Measures, System

METHODS: ChainMap[str, Any] = ChainMap(BASELINES, {GREEDY: None})  # greedy pruning comes first
SAMPLED = ReadBy("measurements", known=frozenset({"population"}))  # the expected loss has no measurements
PADDING = 2.0  # operations of several widths in one program, at most, relative to one program for each
FORMS = ("auto", "gram", "direct")
PRODUCTS = ("highest", "high", "default")
Rule = str | Callable[[Norms, RuleInput], Mask]


class Column(Protocol):
    """What learners need of a problem: the loss of a factor, and a key if the pruning rule is random."""

    @property
    def objective(self) -> Objective: ...

    @property
    def key(self) -> RandomKey | None: ...


ColumnT = TypeVar("ColumnT", bound=Column)


@dataclass(frozen=True, kw_only=True)
class ColumnSystem(System[DataT, ColumnSetting, ColumnT], Generic[DataT, ColumnT]):
    """What the systems with column-wise pruning share: static fields, the training objective, the pruning rule.

    ``n``, ``rank`` and ``width`` are upper bounds where ``Data`` or ``Setting`` gives them too. ``rule`` may be a
    function of norms and :class:`gpsense.pruning.RuleInput` that returns the mask.
    """

    revision: ClassVar[int | str] = 2
    splits: ClassVar[bool] = False  # whether the problem can hold measurements out for a baseline

    dim: Annotated[int, Field("problem", "dimension d: rows of the factor U", at_least=1, label="dimension d")] = 20
    width: Annotated[
        int | None, Field("problem", "columns k of U (null: same as dim)", at_least=1, label="width k")
    ] = None
    rank: Annotated[int, Field("problem", "rank r of the truth", at_least=1, label="rank r of the truth")] = 2
    n: Annotated[
        int,
        Field(
            "problem",
            "number of measurements",
            at_least=1,
            label="measurements n",
            read_by=(SAMPLED,),
        ),
    ] = 400
    method: Annotated[str, Field("train", "greedy_pruning, or a baseline to compare with", choices=METHODS)] = GREEDY
    penalty_kind: Annotated[
        str,
        Field(
            "train",
            "penalty on the columns; group_lasso is applied by proximal steps",
            choices=PENALTIES,
            label="kind of penalty",
        ),
    ] = "smoothed_group_lasso"
    optimizer: Annotated[optimizers.Optimizer, replace(optimizers.FIELD, read_by=(PRUNED,))] = "gd"
    start: Annotated[
        str,
        Field(
            "train",
            "gaussian: independent columns; identical: all columns equal",
            choices=STARTS,
            label="start",
            read_by=(PRUNED,),
        ),
    ] = "gaussian"
    batch: Annotated[
        int | None,
        Field(
            "train",
            "measurements drawn with replacement for each step (null: all are used)",
            at_least=1,
            label="measurements a step",
            read_by=(PRUNED,),
        ),
    ] = None
    rule: Annotated[
        Rule,
        Field(
            "prune",
            "threshold, top_r (r largest), largest_gap, random (r of them), relative (> 0.1 of largest)",
            choices=COLUMN_RULES,
            accepts=Callable,  # pyright: ignore[reportArgumentType]
            verify=verify_rule,
            label="pruning rule",
            read_by=(PRUNED,),
        ),
    ] = "threshold"
    rotation: Annotated[
        str,
        Field(
            "prune",
            "none, or svd (first replace U by U V, V its right singular vectors)",
            choices=ROTATIONS,
            label="rotation before pruning",
            read_by=(PRUNED,),
        ),
    ] = "none"
    form: Annotated[
        str,
        Field(
            "run",
            "compute with the measurements A (direct), with A^T A (gram), or with the cheaper (auto)",
            choices=FORMS,
            axis=False,
        ),
    ] = "auto"
    train_products: Annotated[
        str,
        Field(
            "run",
            "precision of matrix products on an accelerator, in training alone: highest, high or default",
            choices=PRODUCTS,
            axis=False,
        ),
    ] = "highest"
    perturb: Annotated[bool, Field("train", hidden=True)] = False
    patience: Annotated[
        int,
        Field(
            "train",
            "steps in which a perturbation must lower the loss, or the run stops",
            at_least=1,
            at_most=INT32,
            axis=False,
        ),
    ] = 200
    curvature_steps: Annotated[
        int,
        Field(
            "run",
            "Lanczos steps to bound the smallest Hessian eigenvalue after training (0: not measured; exact with as "
            "many as U has entries)",
            at_least=0,
            axis=False,
        ),
    ] = 30

    @property
    @abstractmethod
    def ensemble(self) -> Ensemble | None:
        """The ensemble of the measurements; None: the loss is the expected one, and ``n`` is not used."""

    @abstractmethod
    def error(self, problem: ColumnT, factor: Factor) -> Scalar:
        """The error of a factor, such as its relative distance to the truth."""

    @abstractmethod
    def known_rank(self, problem: ColumnT) -> ScalarLike | Integer:
        """The rank that is passed to pruning rules which know the true rank."""

    @property
    def full_width(self) -> int:
        """The number of columns of the factor: ``width``, or ``dim`` where it is None."""
        return self.dim if self.width is None else self.width

    @property
    def packed(self) -> int:
        """The side of the Gram matrix: the length of the vector into which the recovered matrix is packed."""
        return packed_size(self.dim)

    @property
    def rows(self) -> int:
        """The number of rows of the trained factor."""
        return self.dim

    @property
    def factor_products(self) -> float:
        """The operations that products of factors take in one evaluation of loss and gradient."""
        return 4.0 * self.dim**2 * self.full_width

    @property
    def baseline(self) -> Baseline | None:
        """The baseline that ``method`` names, None for greedy pruning."""
        return METHODS[self.method]

    @property
    def learner(self) -> Learner[ColumnT, ColumnSetting, Any, Any, Any]:
        baseline = self.baseline
        return PruneColumns(self) if baseline is None else RunBaseline(self, baseline)

    @property
    def train_precision(self) -> str:
        return self.train_products

    @property
    def column_rule(self) -> ColumnRule:
        """The pruning rule, looked up by name or made of the function given."""
        return as_rule(self.rule)

    @property
    def descent(self) -> Method:
        """The descent method of training."""
        return Method(self.optimizer, self.perturb, self.patience, stochastic=self.batch is not None)

    def prune_key(self, key: RandomKey) -> RandomKey | None:
        """The key of a random pruning rule, derived from the problem's ``key``; None for other rules."""
        return jax.random.fold_in(key, 3) if self.column_rule.random else None

    def check(self) -> None:
        if self.batch is not None:
            if self.ensemble is None:
                raise BadInput("batch", "population data have no measurements to draw", "leave it out")
            if self.batch > self.n:
                raise BadInput(
                    "batch", f"{self.batch} of {self.n} measurements", "use a batch of at most n, or leave it out"
                )
            if self.form == "gram":
                raise BadInput("form", "minibatches need the measurements themselves", "use direct or auto")
        if self.rank > self.dim:
            raise BadInput("rank", f"{self.rank} exceeds dim {self.dim}", "use a rank of at most dim")
        if self.full_width < self.rank:
            raise BadInput("width", f"{self.full_width} is below rank {self.rank}", "use a width of at least rank")
        if self.baseline is not None and self.baseline.holds_out:
            if not self.splits:
                raise BadInput("method", f"{self.method} needs measurements to hold out", "use system sensing")
            if self.ensemble is None or self.form == "direct":
                problem = "holds measurements out, which population data and form direct do not allow"
                raise BadInput("method", f"{self.method} {problem}", "use drawn measurements in form gram or auto")
        if self.baseline is not None and self.full_width > self.dim:
            remedy = "use a width of at most dim, or greedy_pruning as the only method"
            raise BadInput("width", f"{self.full_width} exceeds dim {self.dim} for {self.method}", remedy)

    def implied(self, given: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """``perturb``: training is perturbed if any radius given for ``perturbation`` is positive."""
        radii = given.get("perturbation", ())
        return {"perturb": any(radius > 0 for radius in radii)} if radii else {}

    def resolve(self, evaluations: int) -> Self:
        system = replace(self, width=self.full_width)
        if self.baseline is not None and self.baseline.knows_rank:
            system = replace(system, width=self.rank)
        if self.ensemble is None or self.batch is not None:
            return replace(system, form="direct")
        if self.baseline is not None and self.baseline.holds_out:
            return replace(system, form="gram")
        if self.form != "auto":
            return system
        build = 2.0 * self.n * self.packed**2 / evaluations
        gram = replace(system, form="gram").flops() + build
        direct = replace(system, form="direct").flops()
        return replace(system, form="gram" if gram < direct else "direct")

    def traceable(self, sizes: Mapping[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Allows ``rank`` unless a baseline knows it, ``n`` if no shape depends on it, ``width`` if it is cheap."""
        system, baseline = self.resolve(evaluations), self.baseline
        names = set() if baseline and baseline.knows_rank else set(sizes) & {"rank"}
        if "n" in sizes and (system.form == "gram" or self.ensemble is None):
            names.add("n")
        if "width" in sizes and not self.perturb and not baseline:
            own = sum(replace(system, width=width).flops() for width in sizes["width"])
            if len(sizes["width"]) * system.flops() <= PADDING * own:
                names.add("width")
        return frozenset(names)

    @property
    def entries(self) -> int:
        """The number of entries of the matrix that is recovered."""
        return self.dim**2

    def flops(self, n: int | None = None) -> float:
        """The operations of one loss and gradient over n measurements (None: the system's), matrix products only."""
        if self.ensemble is None:
            return self.factor_products
        if self.form == "gram":
            return self.factor_products + 2.0 * self.packed**2
        return self.ensemble.flops(self.n if n is None else n, self.dim, self.full_width)

    def describe(self) -> str:
        sizes = f"dim {self.dim}, width {self.full_width}, rank {self.rank}, n {self.n}"
        return f"{self.method}, {sizes}, form {self.form}, {self.optimizer}"

    def cost(self) -> Cost:
        return self.cost_of(self.n)

    def cost_of(self, n: int) -> Cost:
        """The cost of a cell with n measurements."""
        number, packed, gram = jnp.dtype(self.dtype).itemsize, self.packed, self.form == "gram"
        if self.ensemble is None:
            drawn, problem = 0, self.entries
        else:
            drawn = self.ensemble.numbers(n, self.dim)
            problem = packed**2 + 2 * packed if gram else drawn + n
        copies = optimizers.memories(self.optimizer) + (1 if self.perturb else 0)
        factor = self.rows * self.full_width
        scratch = 3 * self.entries + 3 * factor + (3 * packed if gram else 3 * n)
        return Cost(
            flops=self.flops(n),
            problem_bytes=number * (problem + self.rows * self.rank),
            sample_bytes=number * 4 * (drawn + n * packed * gram),
            cell_bytes=number * (scratch + (1 + copies) * factor),
            kept_bytes=number * 2 * (1 + copies) * factor,
        )

    def active(self, setting: ColumnSetting) -> Mask:
        """Which columns are in use: all, or the first ``width`` of the setting."""
        index, width = jnp.arange(self.full_width, dtype=jnp.dtype(self.dtype)), setting.width
        return index < (self.full_width if width is None else width)

    def init(self, setting: ColumnSetting, key: RandomKey) -> Factor:
        """The factor (rows, width) that training starts from, with entries of variance ``start_scale^2 / rows``."""
        dtype, rows = jnp.dtype(self.dtype), self.rows
        draw = STARTS[self.start](key, rows, self.full_width, dtype)
        scale = jnp.asarray(setting.start_scale, dtype) / jnp.sqrt(jnp.asarray(rows, dtype))
        return jnp.where(self.active(setting), draw * scale, jnp.zeros((), dtype))

    def rates(self, setting: ColumnSetting) -> tuple[Rates, Rates]:
        """The step size, momentum, tolerance and perturbation radius of training, then those of fine-tuning."""
        fine_tune_rate = setting.rate if setting.fine_tune_rate is None else setting.fine_tune_rate
        return (
            Rates(setting.rate, setting.momentum, setting.tolerance, setting.perturbation),
            Rates(fine_tune_rate, setting.momentum, setting.fine_tune_tolerance, 0.0),
        )

    def targets(self, problem: ColumnT, setting: ColumnSetting) -> tuple[Target, Target]:
        """The objectives of training (loss plus penalty) and of fine-tuning (the loss), with gradients."""
        penalty, weight = PENALTIES[self.penalty_kind], setting.penalty

        def add(loss: tuple[Later, Factor], factor: Factor) -> tuple[Later, Factor]:
            value, gradient = loss
            if penalty.proximal is not None:
                return lambda: value() + weight * penalty.value(factor, setting.smoothing), gradient
            extra, slope = jax.value_and_grad(penalty.value)(factor, setting.smoothing)
            return lambda: value() + weight * extra, gradient + weight * slope

        def sampled(factor: Factor, key: RandomKey, step: Integer) -> Factor:
            assert isinstance(problem.objective, Empirical)
            part = problem.objective.minibatch(key, self.batch or 1)
            return add(part.gradient_first(factor), factor)[1]

        plain, shrink = problem.objective.gradient_first, penalty.proximal
        penalised = Target(
            value_and_gradient=lambda factor: add(plain(factor), factor),
            proximal=None if shrink is None else lambda factor, rate: shrink(factor, rate * weight),
            sampled=sampled if self.batch is not None else None,
        )
        return penalised, Target(plain)


class Pruned(eqx.Module):
    """The mask of the kept columns, and what is measured of the trained factor at the moment of pruning."""

    mask: Mask
    scores: Norms
    rank: Scalar
    margin: Scalar
    gradient_norm_trained: Scalar
    curvature_trained: Scalar
    curvature_residual: Scalar
    curvature_low: Scalar
    coherence: Scalar


def _measured(pruned: Pruned) -> Measures:
    """The measures taken at pruning, by name."""
    return {
        "rank": pruned.rank,
        "gradient_norm_trained": pruned.gradient_norm_trained,
        "curvature_trained": pruned.curvature_trained,
        "curvature_residual": pruned.curvature_residual,
        "curvature_low": pruned.curvature_low,
        "coherence": pruned.coherence,
        "margin": pruned.margin,
        "column_norms": pruned.scores,
    }


def _recorded(system: ColumnSystem[Any, Any], problem: Column, setting: Any, factor: Factor) -> dict[str, Scalar]:
    """The loss without penalty, its gradient norm, and the error of a factor."""
    loss, gradient = system.targets(problem, setting)[1](factor)
    norm = jnp.sqrt(jnp.sum(gradient**2))
    return {"loss_curve": loss, "error_curve": system.error(problem, factor), "gradient_norm": norm}


def _decided(
    system: ColumnSystem[Any, Any],
    problem: Column,
    setting: Any,
    *,
    trained: Factor,
    turned: Factor,
    mask: Mask,
    counted: Mask,
    scores: Norms,
    margin: Scalar,
    curvature: Smallest,
) -> Pruned:
    """The mask with its measures; ``turned``: ``trained`` after rotation; ``counted``: columns that make the rank."""
    penalised, _ = system.targets(problem, setting)
    _, gradient = penalised(trained)
    return Pruned(
        mask=mask,
        scores=-jnp.sort(-scores),
        rank=counted.sum().astype(scores.dtype),
        margin=margin,
        gradient_norm_trained=penalised.gradient_norm(trained, gradient, system.rates(setting)[0].rate),
        curvature_trained=curvature.value,
        curvature_residual=curvature.residual,
        curvature_low=curvature.low,
        coherence=pruning.coherence(turned, mask),
    )


@final
@dataclass(frozen=True)
class PruneColumns(Learner[ColumnT, ColumnSetting, Descent, Pruned, Descent], Generic[ColumnT]):
    """Algorithm 1 of arXiv 2303.11453: train on loss plus penalty, prune columns by a rule, fine-tune on the loss."""

    system: ColumnSystem[Any, ColumnT]

    @property
    def stride(self) -> int:
        return self.system.descent.check_every

    def lanes(self, problem: ColumnT) -> bool:
        return problem.objective.lanes

    def donates(self, width: int) -> bool:
        return not self.system.descent.perturb and width == self.system.full_width

    def start(self, problem: ColumnT, setting: ColumnSetting, keys: Keys) -> Descent:
        """The factor drawn at random, with a fresh optimizer state."""
        system = self.system
        rates, _ = system.rates(setting)
        return descent.start_descent(system.descent, system.init(setting, keys.start), rates, keys.noise)

    def train(self, problem: ColumnT, setting: ColumnSetting, state: Descent, n_steps: int) -> Descent:
        """Up to ``n_steps`` more steps on loss plus penalty."""
        target, _ = self.system.targets(problem, setting)
        rates = self.system.rates(setting)[0]
        return descent.advance_descent(self.system.descent, target, state, rates, n_steps)

    def prune(self, problem: ColumnT, setting: ColumnSetting, state: Descent) -> Pruned:
        """The mask that the rule makes of the trained columns' norms, with measures of the factor."""
        system, trained, turned = self.system, state.factor, self._turned(state)
        rule, active = system.column_rule, system.active(setting)
        norms = pruning.column_norms(turned)
        threshold = pruning.default_threshold(setting.smoothing) if setting.threshold is None else setting.threshold
        keep, integer = setting.keep, jnp.result_type(int)
        rank = system.known_rank(problem) if keep is None else jnp.asarray(keep).astype(integer)
        given = RuleInput(threshold, rank, problem.key, active)
        mask = rule.mask(jnp.where(active, norms, 0.0), given) & active
        return _decided(
            system,
            problem,
            setting,
            trained=trained,
            turned=turned,
            mask=mask,
            counted=mask,
            scores=jnp.where(active, norms, jnp.nan),
            margin=rule.margin(norms, mask, given),
            curvature=self._curvature(system.targets(problem, setting)[0], trained, active),
        )

    def start_fine_tuning(
        self, problem: ColumnT, setting: ColumnSetting, state: Descent, pruned: Pruned, width: int
    ) -> Descent:
        """The kept columns, padded to ``width``, with a fresh optimizer state; diverged cells stay stopped."""
        _, rates = self.system.rates(setting)
        fresh = descent.start_descent(self._plain, pruning.compact(self._turned(state), pruned.mask, width), rates)
        status = jnp.where(state.status == DIVERGED, state.status, fresh.status)
        return eqx.tree_at(lambda s: s.status, fresh, status)

    def fine_tune(self, problem: ColumnT, setting: ColumnSetting, state: Descent, n_steps: int) -> Descent:
        """Up to ``n_steps`` more steps on the loss alone."""
        _, target = self.system.targets(problem, setting)
        return descent.advance_descent(self._plain, target, state, self.system.rates(setting)[1], n_steps)

    def record(self, problem: ColumnT, setting: ColumnSetting, state: Descent) -> dict[str, Scalar]:
        return _recorded(self.system, problem, setting, state.factor)

    def measure(self, problem: ColumnT, setting: ColumnSetting, state: Descent, pruned: Pruned) -> Measures:
        return _measured(pruned)

    @property
    def _plain(self) -> Method:
        """The descent method of fine-tuning: without perturbation and minibatches."""
        return Method(self.system.optimizer)

    def _turned(self, state: Descent) -> Factor:
        """The trained factor after the rotation before pruning."""
        return ROTATIONS[self.system.rotation](state.factor)

    def _curvature(self, penalised: Target, factor: Factor, active: Mask) -> Smallest:
        """Bounds on the smallest Hessian eigenvalue of the training objective; NaN if ``curvature_steps`` is 0."""
        if self.system.curvature_steps == 0:
            return _unmeasured(factor)
        steps = None if self.system.curvature_steps >= factor.size else self.system.curvature_steps
        return Smallest(*certificate(lambda at: penalised(at)[1], factor, jax.random.key(0), steps, active)[1:])


def _unmeasured(factor: Factor) -> Smallest:
    """The bounds, all NaN, of an eigenvalue that was not computed."""
    nan = jnp.full((), jnp.nan, factor.dtype)
    return Smallest(nan, nan, nan)


@final
@dataclass(frozen=True)
class RunBaseline(Learner[ColumnT, ColumnSetting, Run, Pruned, Descent], Generic[ColumnT]):
    """A baseline in place of training; its factor is neither pruned nor fine-tuned.

    The scores are the singular values of that factor; the rank is how many of them exceed a tenth of the largest.
    """

    system: ColumnSystem[Any, ColumnT]
    baseline: Baseline

    def start(self, problem: ColumnT, setting: ColumnSetting, keys: Keys) -> Run:
        system = self.system
        width, tuning = system.full_width, setting.tuning
        return methods.start(self.baseline, problem.objective, system.dim, width, tuning, keys.start)

    def train(self, problem: ColumnT, setting: ColumnSetting, state: Run, n_steps: int) -> Run:
        return methods.advance(self.baseline, problem.objective, setting.tuning, state, n_steps)

    def prune(self, problem: ColumnT, setting: ColumnSetting, state: Run) -> Pruned:
        factor, active = self.baseline.factor(state.state), self.system.active(setting)
        scores = singular_values(factor)
        return _decided(
            self.system,
            problem,
            setting,
            trained=factor,
            turned=factor,
            mask=active,
            counted=pruning.threshold_mask(scores, 0.1 * scores[0]),
            scores=scores,
            margin=pruning.margin(scores, 0.1 * scores[0]),
            curvature=_unmeasured(factor),
        )

    def start_fine_tuning(
        self, problem: ColumnT, setting: ColumnSetting, state: Run, pruned: Pruned, width: int
    ) -> Descent:
        """The baseline's factor, in a descent that has already ended."""
        _, rates = self.system.rates(setting)
        factor = pruning.compact(self.baseline.factor(state.state), pruned.mask, width)
        fresh = descent.start_descent(Method(self.system.optimizer), factor, rates)
        return eqx.tree_at(lambda s: s.status, fresh, ended(state.status))

    def fine_tune(self, problem: ColumnT, setting: ColumnSetting, state: Descent, n_steps: int) -> Descent:
        """The state unchanged: the run has ended."""
        return state

    def record(self, problem: ColumnT, setting: ColumnSetting, state: Run | Descent) -> dict[str, Scalar]:
        factor = state.factor if isinstance(state, Descent) else self.baseline.factor(state.state)
        return _recorded(self.system, problem, setting, factor)

    def measure(self, problem: ColumnT, setting: ColumnSetting, state: Descent, pruned: Pruned) -> Measures:
        return _measured(pruned)
