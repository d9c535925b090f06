"""Low-rank matrix sensing, pruned by columns (arXiv 2303.11453).

``y_i = <A_i, U* U*^T> + sigma g_i``; an over-parameterised factor U (dim x width) is trained on
``(1/n) ||A(U U^T) - y||^2 + lambda R(U)``, columns of norm at most the threshold are deleted, the rest is fine-tuned
on the loss alone.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense import pruning
from gpsense._types import Factor, Integer, Mask, Norms, RandomKey, Scalar, ScalarLike
from gpsense.descent import Method, Rates, Target
from gpsense.errors import BadInput
from gpsense.penalties import PENALTIES, shrink_columns
from gpsense.sensing.losses import Empirical, Objective, Population, gram_objective
from gpsense.sensing.measurements import Measurements, gaussian_measurements, rank_one_measurements
from gpsense.sensing.methods import BASELINES, Baseline, Tuning
from gpsense.sensing.symmetric import packed_size, svec
from gpsense.sensing.truths import geometric_spectrum, low_rank_truth
from gpsense.systems._columns import ColumnSystem
from gpsense.systems._contract import Cost

GREEDY = "greedy_pruning"
PADDING = 2.0  # most that widths in one program may cost over one program each, in operations
ENSEMBLES = {"gaussian": gaussian_measurements, "rank_one": rank_one_measurements}


@dataclass(frozen=True)
class SensingSpec:
    """Static: shapes, counts and names. ``measurements``: gaussian, rank_one or population (n is then not read).

    ``n``, ``rank`` and ``width`` are bounds where the instance or setting gives the number itself. ``method``:
    greedy_pruning or a name of :data:`gpsense.sensing.methods.BASELINES`. ``penalty_kind``: a name of
    :data:`gpsense.penalties.PENALTIES`; group_lasso is met by proximal steps. ``start``: gaussian columns, or one drawn
    column in all places (identical). ``batch``: measurements drawn, with replacement, for each training step; None:
    all of them. ``rule`` and ``rotation`` of pruning: :data:`gpsense.pruning.columns.RULES`, :data:`gpsense.pruning.columns.ROTATIONS`.
    ``form`` of the data: gram, direct or auto (the cheaper); ``train_products``: precision of products while training
    on accelerators.
    """

    dim: int = 20
    width: int = 20
    rank: int = 2
    n: int = 400
    measurements: str = "gaussian"
    method: str = GREEDY
    penalty_kind: str = "smoothed_group_lasso"
    optimizer: str = "gd"
    start: str = "gaussian"
    batch: int | None = None
    rule: str = "threshold"
    rotation: str = "none"
    form: str = "auto"
    dtype: str = "float32"
    train_products: str = "highest"
    perturb: bool = False
    patience: int = 200
    curvature_steps: int = 30


class SensingInstance(eqx.Module):
    """Traced numbers that change the data.

    ``n`` and ``rank``, None for those of the spec; ``noise`` sigma; ``condition`` mu_1 / mu_r of a geometric spectrum
    with mu_1 = 1; or explicit eigenvalues ``spectrum`` (rank,); or the factor ``truth`` (dim, rank) itself, which is
    then used as given.
    """

    n: ScalarLike | None = None
    rank: ScalarLike | None = None
    noise: ScalarLike = 0.0
    condition: ScalarLike = 1.0
    spectrum: jax.Array | None = None
    truth: Factor | None = None


class SensingSetting(eqx.Module):
    """Traced numbers that leave the data alone.

    ``width`` None means the spec's (columns beyond it are zero and stay zero), ``threshold`` None
    ``2 sqrt(smoothing)``, ``fine_tune_rate`` None the training rate. ``start_scale`` is the expected column norm at
    the start (entries of variance start_scale^2 / dim).
    """

    width: ScalarLike | None = None
    penalty: ScalarLike = 0.1
    smoothing: ScalarLike = 0.04
    rate: ScalarLike = 0.02
    momentum: ScalarLike = 0.9
    start_scale: ScalarLike = 0.3
    tolerance: ScalarLike = 1e-4
    perturbation: ScalarLike = 0.0
    threshold: ScalarLike | None = None
    fine_tune_rate: ScalarLike | None = None
    fine_tune_tolerance: ScalarLike = 1e-5
    baseline_rate: ScalarLike = 1.0
    baseline_penalty: ScalarLike = 0.0
    baseline_start_scale: ScalarLike = 1e-3
    baseline_tolerance: ScalarLike = 0.0


class SensingProblem(eqx.Module):
    """One drawn problem: the loss, the truth U* (dim, rank), and a key for what is random about pruning."""

    objective: Objective
    truth: Factor
    key: RandomKey | None = None


def prune_key(spec: SensingSpec, key: RandomKey) -> RandomKey | None:
    """The key of a random pruning rule, from that of the problem; None under the other rules."""
    return jax.random.fold_in(key, 3) if spec.rule == "random" else None


def sample_sensing(spec: SensingSpec, instance: SensingInstance, key: RandomKey) -> SensingProblem:
    """Draw truth, measurements and noise; the same key gives the same draws at every noise level and rank.

    A Gram form is centred on the truth, so that float32 does not lose the error in a difference of large numbers.
    """
    truth_key, map_key, noise_key = jax.random.split(key, 3)
    dtype = jnp.dtype(spec.dtype)
    if instance.truth is not None:
        truth = jnp.asarray(instance.truth, dtype)
    else:
        spectrum = instance.spectrum
        if spectrum is None:
            spectrum = geometric_spectrum(spec.rank, instance.condition, dtype, instance.rank)
        truth = low_rank_truth(truth_key, spec.dim, jnp.asarray(spectrum, dtype))
    noise = jnp.asarray(instance.noise, dtype)
    if spec.measurements == "population":
        return SensingProblem(Population(truth @ truth.T, noise**2), truth, prune_key(spec, key))
    measurements: Measurements = ENSEMBLES[spec.measurements](map_key, spec.n, spec.dim, dtype)
    values = measurements.forward(truth) + noise * jax.random.normal(noise_key, (spec.n,), dtype)
    if spec.form != "gram":
        return SensingProblem(Empirical(measurements, values), truth, prune_key(spec, key))
    used = None if instance.n is None else jnp.arange(spec.n, dtype=dtype) < instance.n
    gram = gram_objective(measurements, values, svec(truth @ truth.T), used)
    return SensingProblem(gram, truth, prune_key(spec, key))


class Sensing(ColumnSystem):
    """The sensing system behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "sensing"
    Spec: ClassVar[type] = SensingSpec
    Instance: ClassVar[type] = SensingInstance
    Setting: ClassVar[type] = SensingSetting
    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        "error": ("relative Frobenius error of U U^T: ||U U^T - M||_F / ||M||_F", "1"),
        "rank": ("columns kept by pruning", "columns"),
        "column_norms": ("column norms ||U e_i|| after training, largest first", "norm of U"),
        "margin": (
            "distance of the nearest column norm to the threshold; under other rules of the kept to the deleted",
            "norm of U",
        ),
    }

    def check(self, spec: SensingSpec) -> None:
        if spec.batch is not None and (spec.measurements == "population" or spec.batch > spec.n):
            if spec.measurements == "population":
                raise BadInput("train.batch", "population data have no measurements to draw", "leave it out")
            raise BadInput("train.batch", f"{spec.batch} of {spec.n} measurements", "use a batch of at most n, or null")
        if spec.batch is not None and spec.form == "gram":
            raise BadInput("run.form", "minibatches need the measurements themselves", "use direct or auto")
        if spec.rank > spec.dim:
            raise BadInput("problem.rank", f"{spec.rank} exceeds dim {spec.dim}", "use a rank of at most dim")
        if spec.width < spec.rank:
            raise BadInput("problem.width", f"{spec.width} is below rank {spec.rank}", "use a width of at least rank")
        if self.baseline(spec) and spec.width > spec.dim:
            remedy = "use a width of at most dim, or greedy_pruning alone"
            raise BadInput("problem.width", f"{spec.width} exceeds dim {spec.dim} for {spec.method}", remedy)

    def resolve(self, spec: SensingSpec, evaluations: int) -> SensingSpec:
        baseline = self.baseline(spec)
        if baseline and baseline.knows_rank:
            spec = replace(spec, width=spec.rank)
        if spec.measurements == "population" or spec.batch is not None:
            return replace(spec, form="direct")
        if spec.form != "auto":
            return spec
        packed = self.packed(spec)
        build = 2.0 * spec.n * packed**2 / evaluations
        gram = self.flops(replace(spec, form="gram")) + build
        direct = self.flops(replace(spec, form="direct"))
        return replace(spec, form="gram" if gram < direct else "direct")

    def traceable(self, spec: SensingSpec, sizes: dict[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Rank always; n where the form of the data does not depend on it; width where zero columns cost little."""
        spec = self.resolve(spec, evaluations)
        baseline = self.baseline(spec)
        names = set() if baseline and baseline.knows_rank else set(sizes) & {"rank"}
        if "n" in sizes and (spec.form == "gram" or spec.measurements == "population"):
            names.add("n")
        if "width" in sizes and not spec.perturb and not baseline:
            own = sum(self.flops(replace(spec, width=width)) for width in sizes["width"])
            if len(sizes["width"]) * self.flops(spec) <= PADDING * own:
                names.add("width")
        return frozenset(names)

    def active(self, spec: SensingSpec, setting: SensingSetting) -> Mask:
        index = jnp.arange(spec.width, dtype=jnp.dtype(spec.dtype))
        return index < (spec.width if setting.width is None else setting.width)

    def cost(self, spec: SensingSpec) -> Cost:
        number = jnp.dtype(spec.dtype).itemsize
        packed = packed_size(spec.dim)
        data = spec.n * (spec.dim if spec.measurements == "rank_one" else packed)
        if spec.measurements == "population":
            data, problem = 0, spec.dim**2
        else:
            problem = packed**2 + 2 * packed if spec.form == "gram" else data + spec.n
        memories = {"gd": 0, "adam": 2}.get(spec.optimizer, 1) + (1 if spec.perturb else 0)
        factor = spec.dim * spec.width
        scratch = spec.dim**2 * 3 + 3 * factor + (3 * packed if spec.form == "gram" else 3 * spec.n)
        return Cost(
            flops=self.flops(spec),
            problem_bytes=number * (problem + spec.dim * spec.rank),
            sample_bytes=number * 4 * (data + spec.n * packed * (spec.form == "gram")),
            cell_bytes=number * (scratch + (1 + memories) * factor),
            kept_bytes=number * 2 * (1 + memories) * factor,
        )

    def describe(self, spec: Any) -> str:
        sizes = f"dim {spec.dim}, width {spec.width}, rank {spec.rank}, n {spec.n}"
        return f"{spec.method}, {sizes}, {spec.measurements}, form {spec.form}, {spec.optimizer}"

    def sample(self, spec: SensingSpec, instance: SensingInstance, key: RandomKey) -> SensingProblem:
        return sample_sensing(spec, instance, key)

    def start(self, spec: SensingSpec, setting: SensingSetting, key: RandomKey) -> Factor:
        dtype = jnp.dtype(spec.dtype)
        drawn = 1 if spec.start == "identical" else spec.width
        draw = jax.random.normal(key, (drawn * spec.dim,), dtype).reshape(drawn, spec.dim).T
        draw = jnp.broadcast_to(draw, (spec.dim, spec.width))
        scale = jnp.asarray(setting.start_scale, dtype) / jnp.sqrt(jnp.asarray(spec.dim, dtype))
        return jnp.where(self.active(spec, setting), draw * scale, jnp.zeros((), dtype))

    def method(self, spec: SensingSpec) -> Method:
        return Method(spec.optimizer, spec.perturb, spec.patience, stochastic=spec.batch is not None)

    def baseline(self, spec: SensingSpec) -> Baseline | None:
        return None if spec.method == GREEDY else BASELINES[spec.method]

    def tuning(self, setting: SensingSetting) -> Tuning:
        return Tuning(
            setting.baseline_rate, setting.baseline_penalty, setting.baseline_start_scale, setting.baseline_tolerance
        )

    def rates(self, setting: SensingSetting) -> tuple[Rates, Rates]:
        fine_tune_rate = setting.rate if setting.fine_tune_rate is None else setting.fine_tune_rate
        return (
            Rates(setting.rate, setting.momentum, setting.tolerance, setting.perturbation),
            Rates(fine_tune_rate, setting.momentum, setting.fine_tune_tolerance, 0.0),
        )

    def objectives(self, spec: SensingSpec, problem: Any, setting: SensingSetting) -> tuple[Target, Target]:
        penalty, weight = PENALTIES[spec.penalty_kind], setting.penalty

        def add(loss: tuple[Scalar, Factor], factor: Factor) -> tuple[Scalar, Factor]:
            value, gradient = loss
            if spec.penalty_kind == "group_lasso":
                return value + weight * penalty(factor, setting.smoothing), gradient
            extra, slope = jax.value_and_grad(penalty)(factor, setting.smoothing)
            return value + weight * extra, gradient + weight * slope

        def sampled(factor: Factor, key: RandomKey, step: Integer) -> Factor:
            assert isinstance(problem.objective, Empirical)
            part = problem.objective.minibatch(key, spec.batch or 1)
            return add(part.value_and_gradient(factor), factor)[1]

        plain = problem.objective.value_and_gradient
        penalised = Target(
            value_and_gradient=lambda factor: add(plain(factor), factor),
            proximal=(lambda factor, rate: shrink_columns(factor, rate * weight))
            if spec.penalty_kind == "group_lasso"
            else None,
            sampled=sampled if spec.batch is not None else None,
        )
        return penalised, Target(plain)

    def scores(self, params: Factor) -> Norms:
        return pruning.column_norms(params)

    def threshold(self, setting: SensingSetting) -> ScalarLike:
        """Columns whose norm is not above this are pruned, by the rule of the paper."""
        return pruning.default_threshold(setting.smoothing) if setting.threshold is None else setting.threshold

    def rotate(self, spec: SensingSpec, params: Factor) -> Factor:
        return pruning.rotate(params) if spec.rotation == "svd" else params

    def known_rank(self, spec: SensingSpec, problem: Any) -> ScalarLike | Integer:
        """What the rules that are told the rank are told."""
        return jnp.sum(jnp.any(problem.truth != 0, axis=0))

    def mask(self, spec: SensingSpec, problem: Any, setting: SensingSetting, scores: Norms) -> Mask:
        if spec.rule == "threshold":
            return pruning.threshold_mask(scores, self.threshold(setting))
        scores = jnp.where(self.active(spec, setting), scores, 0.0)
        rank = self.known_rank(spec, problem)
        if spec.rule == "random":
            assert problem.key is not None
            return pruning.random_mask(problem.key, scores, rank)
        return pruning.largest_mask(scores, rank) if spec.rule == "top_r" else pruning.gap_mask(scores)

    def margin(self, spec: SensingSpec, setting: SensingSetting, scores: Norms, mask: Mask) -> Scalar:
        if spec.rule == "threshold":
            return pruning.margin(jnp.where(self.active(spec, setting), scores, jnp.inf), self.threshold(setting))
        return pruning.gap(jnp.where(self.active(spec, setting), scores, -jnp.inf), mask)

    def coherence(self, params: Factor, mask: Mask) -> Scalar:
        return pruning.coherence(params, mask)

    def masked(self, params: Factor, mask: Mask) -> Factor:
        return pruning.apply_mask(params, mask)

    def compact(self, params: Factor, mask: Mask, width: int) -> Float[Array, "dim kept"]:
        return pruning.compact(params, mask, width)

    def error(self, problem: SensingProblem, params: Factor) -> Scalar:
        truth = problem.truth @ problem.truth.T
        return jnp.sqrt(jnp.sum((params @ params.T - truth) ** 2) / jnp.sum(truth**2))

    def packed(self, spec: SensingSpec) -> int:
        """Side of H in Gram form."""
        return packed_size(spec.dim)

    def flops(self, spec: SensingSpec) -> float:
        """Floating-point operations of one loss and gradient."""
        return _flops(spec)


def _flops(spec: SensingSpec) -> float:
    """Floating-point operations of one loss and gradient, the products only."""
    packed, factor_products = packed_size(spec.dim), 4.0 * spec.dim**2 * spec.width
    if spec.measurements == "population":
        return factor_products
    if spec.form == "gram":
        return factor_products + 2.0 * packed**2
    if spec.measurements == "rank_one":
        return 4.0 * spec.n * spec.dim * spec.width
    return factor_products + 4.0 * spec.n * packed
