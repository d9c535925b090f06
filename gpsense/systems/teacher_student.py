"""Masked teacher and student (arXiv 2110.05667): two-layer networks whose neurons each see some of the inputs.

``y = (1/K) sum_j relu(w_j^T x) + noise``; the student has as many neurons, a mask, and the same second layer.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import theory
from gpsense._linalg import eigh
from gpsense._types import Flags, Integer, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy, Traced
from gpsense.optimizers import Rate
from gpsense.pruning.weight_scores import WEIGHT_RULES, WeightRule
from gpsense.systems._contract import Cost, Measure, Measures
from gpsense.systems._weights import Optimizer, Samples, WeightModel, WeightsSetting, WeightSystem
from gpsense.tickets import teacher
from gpsense.tickets.convexity import least_secant_curvature
from gpsense.tickets.matching import matched, relative_error
from gpsense.tickets.teacher import DRAWS, SUPPORTS, NeuronMask, TeacherSamples, Weights
from gpsense.tickets.tensor import tensor_start

FOUND = 1e-4  # relative error that counts as success, unless a larger one is set
NEAR = 0.1  # radius within which convexity is measured, relative to the distance to the teacher
RULES: ChainMap[str, WeightRule] = ChainMap(
    WEIGHT_RULES, {"teacher": WeightRule("the teacher's mask, up to the accuracy that is set", at="given")}
)


class TeacherStudentData(Traced):
    """Traced numbers that change the data.

    ``n``: samples; ``support``: r, the inputs that each neuron sees (None, for either: the system's value); ``noise``:
    its standard deviation over the root mean square of y; ``condition``: scale of the first teacher row over that of
    the last; ``overlap``: share of each support common to all neurons; ``uneven``: supports have (1 - uneven) r to
    (1 + uneven) r inputs.
    """

    n: ScalarLike | None = None
    support: ScalarLike | None = None
    noise: Annotated[
        ScalarLike,
        Field(help="standard deviation of the noise over the root mean square of y", at_least=0, label="noise σ"),
    ] = 0.0
    condition: Annotated[
        ScalarLike,
        Field(
            help="scale of the first neuron's weights over that of the last",
            at_least=1,
            label="condition number of the truth",
        ),
    ] = 1.0
    overlap: Annotated[
        ScalarLike,
        Field(
            help="share of each support that all neurons have in common",
            at_least=0,
            at_most=1,
            label="overlap of the supports",
        ),
    ] = 0.0
    uneven: Annotated[
        ScalarLike,
        Field(
            help="neurons see (1 - uneven) r to (1 + uneven) r inputs",
            at_least=0,
            below=1,
            label="unevenness of the supports",
        ),
    ] = 0.0


_STARTS = frozenset({"near", "gaussian", "tensor"})


@final
class TeacherStudentSetting(WeightsSetting):
    """Traced numbers that do not change the data, those of :class:`WeightsSetting` included.

    ``kept`` None keeps all weights or, with rule teacher, as many inputs as the teacher's neuron has. ``accuracy``:
    share of a support that a mask of rule teacher covers. ``distance``, of a near start from the teacher W*, and
    ``start_scale``, the norm of a gaussian start, are in units of ||W*||_F. Training ends once the relative error is at
    most ``success``, except in the rounds of iterative pruning.
    """

    rate: Rate = 10.0
    accuracy: Annotated[
        ScalarLike,
        Field(
            "prune",
            "share of the teacher's supports that a mask of rule teacher covers",
            at_least=0,
            at_most=1,
            label="accuracy of the mask",
            read_by=(ReadBy("rule", ("teacher",)),),
        ),
    ] = 1.0
    distance: Annotated[
        ScalarLike,
        Field(
            "train",
            "distance of a near start from the teacher, over the teacher's norm",
            at_least=0,
            label="distance of the start",
            read_by=(ReadBy("start", ("near",), _STARTS),),
        ),
    ] = 0.1
    start_scale: Annotated[
        ScalarLike,
        Field(
            "train",
            "norm of a gaussian start over the teacher's",
            above=0,
            label="scale of the start",
            read_by=(ReadBy("start", ("gaussian",), _STARTS),),
        ),
    ] = 1.0
    success: Annotated[ScalarLike, Field("train", "training ends at this relative error", at_least=0)] = 1e-4


class TeacherStudentProblem(eqx.Module):
    """Samples, the standard deviation of their noise, the teacher's weights (K, d) and its supports."""

    samples: TeacherSamples
    noise: Scalar
    teacher: Float[Array, "neurons dim"]
    support: Bool[Array, "neurons dim"]


class Start(NamedTuple):
    """A start: ``draw(key, problem, setting, mask)`` returns weights that are 0 outside the mask (None: no mask).

    ``ordered``: whether rows are in the teacher's order; ``independent``: whether it needs dim at least ``neurons``.
    """

    help: str
    draw: Callable[[RandomKey, TeacherStudentProblem, TeacherStudentSetting, NeuronMask | None], Weights]
    ordered: bool = False
    independent: bool = False


def _inside(problem: TeacherStudentProblem, mask: NeuronMask | None) -> NeuronMask:
    return jnp.ones(problem.support.shape, bool) if mask is None else mask


def _tensor_start(samples: TeacherSamples, neurons: int, mask: NeuronMask | None) -> Weights:
    return tensor_start(samples.inputs, samples.values, samples.used, neurons, mask)


STARTS: dict[str, Start] = {
    "near": Start(
        "near the teacher",
        lambda key, problem, setting, mask: teacher.near_start(
            key, problem.teacher, _inside(problem, mask), setting.distance
        ),
        ordered=True,
    ),
    "gaussian": Start(
        "at random",
        lambda key, problem, setting, mask: teacher.random_start(
            key, problem.teacher, _inside(problem, mask), setting.start_scale
        ),
    ),
    "tensor": Start(
        "an estimate from the samples by the tensor method",
        lambda key, problem, setting, mask: _tensor_start(problem.samples, problem.teacher.shape[0], mask),
        independent=True,
    ),
}


@final
@dataclass(frozen=True, kw_only=True)
class TeacherStudent(WeightSystem[TeacherStudentData, TeacherStudentSetting, TeacherStudentProblem]):
    """Masked teacher and student: two-layer networks whose neurons each see some of the inputs (arXiv 2110.05667).

    - ``neurons``: their number K. Each sees ``support`` (r) of the ``dim`` inputs; ``supports`` says whether these sets
      of inputs are independent or overlap. ``entries``: the teacher's weights are uniform on [-1/2, 1/2], or gaussian.
    - ``n``: the number of samples. Where Data gives an ``n`` or a ``support``, those given here are upper bounds.
    - ``rule``: with teacher, the mask is the teacher's own, or covers the share ``accuracy`` of it.
    - ``start``: near (the teacher), gaussian (at random) or tensor (estimated by the tensor method).
    - ``subsets``: the samples are split into this many parts, and each step uses the next part.
    - ``hessian``: whether to measure the eigenvalues of the loss's Hessian at the teacher.
    - ``convexity``: whether to measure if the gradient is monotone between the point where training ended and points
      around it, at a tenth of its distance to the teacher (:mod:`gpsense.tickets.convexity`).

    >>> system = gpsense.TeacherStudent()
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.teacher.shape
    (5, 100)
    """

    name: ClassVar[str] = "teacher_student"
    Data: ClassVar[type[TeacherStudentData]] = TeacherStudentData
    Setting: ClassVar[type[TeacherStudentSetting]] = TeacherStudentSetting
    rules: ClassVar[Mapping[str, WeightRule]] = RULES
    steps: ClassVar[tuple[int, int]] = (0, 2000)
    table: ClassVar[tuple[str, ...]] = ("rank", "mask_accuracy", "effective_size", "success", "error")
    measures: ClassVar[Mapping[str, Measure]] = {
        "rank": Measure("weights kept", "weights"),
        "kept_share": Measure("share of the weights that was kept"),
        "mask_accuracy": Measure("share of the teacher's supports that the mask covers"),
        "effective_size": Measure("effective size r~ of the mask, as the paper defines it", "inputs"),
        "conditioning": Measure("largest over smallest singular value of the teacher's weights"),
        "success": Measure("1 where the relative error is at most 1e-4, or at most train.success if that is larger"),
        "error": Measure("||W - W*||_F / ||W*||_F, rows matched to the teacher's, unless started near it"),
        "error_trained": Measure("relative error of the weights before pruning"),
        "error_pruned": Measure("relative error of the weights at the start of training with the mask"),
        "error_curve": Measure("relative error of the weights along the run", dims=("step",)),
        "risk": Measure("E (yhat - y)^2 without noise, over E y^2, exact"),
        "loss": Measure("(1/2N) sum (yhat - y)^2 over the samples", "loss"),
        "loss_curve": Measure("(1/2N) sum (yhat - y)^2 along the run", "loss", ("step",)),
        "gradient_norm": Measure("gradient norm on the mask where training ended", "loss / weight"),
        "least_eigenvalue": Measure("smallest Hessian eigenvalue at the teacher, on the mask", "loss / weight^2"),
        "largest_eigenvalue": Measure("largest Hessian eigenvalue at the teacher, on the mask", "loss / weight^2"),
        "secant_curvature": Measure(
            "least <grad f(W) - grad f(V), W - V> / ||W - V||^2 where training ended, V along the flattest directions",
            "loss / weight^2",
        ),
        "noise_floor": Measure(
            "relative error of least squares with the teacher's activation pattern, from the Hessian"
        ),
    }

    rule: Annotated[
        str,
        Field(
            "prune",
            "the teacher's mask, or one chosen in rounds (iterative_magnitude), after training (magnitude) or before "
            "it (random, snip, grasp, movement, synflow), or none",
            choices=RULES,
            label="pruning rule",
        ),
    ] = "teacher"
    optimizer: Optimizer = "momentum"
    n: Samples = 400
    dim: Annotated[int, Field("problem", "number of inputs", at_least=1, label="dimension d")] = 100
    neurons: Annotated[int, Field("train", "neurons K", at_least=1)] = 5
    support: Annotated[
        int, Field("problem", "number r of inputs that a neuron sees", at_least=1, label="inputs r that a neuron sees")
    ] = 20
    supports: Annotated[
        str,
        Field(
            "problem",
            "sets of inputs that neurons see: independent, or with an overlap",
            choices=SUPPORTS,
            label="supports of the teacher",
        ),
    ] = "independent"
    entries: Annotated[
        str,
        Field(
            "problem",
            "distribution of the teacher's weights, uniform or gaussian",
            choices=DRAWS,
            key="draw",
            label="entries of the teacher",
        ),
    ] = "uniform"
    start: Annotated[
        str,
        Field(
            "train",
            "near (the teacher), gaussian (at random) or tensor (by the tensor method)",
            choices=STARTS,
            label="start",
        ),
    ] = "near"
    subsets: Annotated[
        int,
        Field(
            "train",
            "disjoint parts of the samples; each step uses the next part",
            at_least=1,
            label="disjoint subsets of the samples",
        ),
    ] = 1
    hessian: Annotated[
        bool, Field("run", "measure the eigenvalues of the loss's Hessian at the teacher", axis=False)
    ] = False
    convexity: Annotated[
        bool, Field("run", "measure whether the gradient is monotone where training ended", axis=False)
    ] = False

    def check(self) -> None:
        super().check()
        if self.support > self.dim:
            raise BadInput("support", f"{self.support} is more than the {self.dim} inputs", "use at most dim")
        if self.subsets > self.n:
            raise BadInput("subsets", f"{self.subsets} parts are more than the {self.n} samples", "use at most n")
        if self.subsets > 1 and self.batch is not None:
            raise BadInput("batch", "steps see disjoint subsets already", "leave out batch or subsets")
        if STARTS[self.start].independent and self.dim < self.neurons:
            raise BadInput("start", f"{self.start} needs at least {self.neurons} inputs", "raise dim or lower neurons")

    def check_data(self, data: TeacherStudentData) -> None:
        if not SUPPORTS[self.supports].overlap and data.overlap > 0:
            raise BadInput("overlap", f"{self.supports} supports have none", "set supports to overlap")

    def traceable(self, sizes: Mapping[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Allows ``n`` and ``support``, up to this system's values."""
        return frozenset(sizes) & {"n", "support"}

    def describe(self) -> str:
        return (
            f"rule {self.rule}, start {self.start}, {self.neurons} neurons, dim {self.dim}, n up to {self.n}, "
            f"{self.optimizer}"
        )

    def cost(self) -> Cost:
        number, weights = jnp.dtype(self.dtype).itemsize, self.neurons * self.dim
        samples = self.n * (self.dim + 2)
        parts = 4 * self.n * self.dim if self.n <= teacher.WHOLE else 0
        hessian = (self.hessian + self.convexity) * weights**2
        return Cost(
            flops=4.0 * self.n * weights + 40.0 * weights,
            problem_bytes=number * (samples + parts + 2 * weights),
            sample_bytes=number * 2 * samples,
            cell_bytes=number * (6 * weights + 3 * self.n * self.neurons),
            kept_bytes=number * (6 * weights + 4 * hessian),
            once=60.0 * samples + 2.0 * self.n * hessian + 10.0 * (self.hessian + self.convexity) * weights**3,
        )

    def draw(self, data: TeacherStudentData, key: RandomKey) -> TeacherStudentProblem:
        """Draw supports, weights, samples; the same key gives the same at every noise, and a larger n adds samples."""
        support_key, weight_key, sample_key = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)
        size = self.support if data.support is None else data.support
        sizes = teacher.support_sizes(self.neurons, size, data.uneven, self.dim, dtype)
        support = SUPPORTS[self.supports].draw(support_key, self.dim, sizes, data.overlap)
        weights = teacher.draw_weights(weight_key, support, DRAWS[self.entries], data.condition, dtype)
        samples = teacher.draw_samples(sample_key, weights, self.n, data.n, data.noise)
        noise = jnp.asarray(data.noise, dtype) * jnp.sqrt(samples.power)
        return TeacherStudentProblem(samples, noise, weights, support)

    @property
    def model(self) -> "TeacherModel":
        return TeacherModel(self)


@final
@dataclass(frozen=True)
class TeacherModel(WeightModel[TeacherStudentProblem, TeacherStudentSetting]):
    """The model of the student: weights (neurons, dim) fitted to samples of the teacher."""

    system: TeacherStudent

    @property
    def stochastic(self) -> bool:
        return self.system.batch is not None or self.system.subsets > 1

    @property
    def ordered(self) -> bool:
        """Whether the rows are in the teacher's order."""
        return STARTS[self.system.start].ordered

    @property
    def shapes(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.system.neurons, self.system.dim), jnp.dtype(self.system.dtype))

    def start(
        self,
        problem: TeacherStudentProblem,
        setting: TeacherStudentSetting,
        mask: NeuronMask | None,
        key: RandomKey,
    ) -> Weights:
        return STARTS[self.system.start].draw(key, problem, setting, mask)

    def given_mask(self, problem: TeacherStudentProblem, setting: TeacherStudentSetting, key: RandomKey) -> NeuronMask:
        dtype, dim = problem.teacher.dtype, self.system.dim
        sizes = jnp.sum(problem.support, axis=1).astype(dtype)
        if setting.kept is not None:
            sizes = jnp.full_like(sizes, jnp.clip(jnp.round(jnp.asarray(setting.kept, dtype) * dim), 1, dim))
        return teacher.student_mask(key, problem.support, sizes, setting.accuracy)

    def loss(self, problem: TeacherStudentProblem, params: Weights) -> Scalar:
        samples = problem.samples
        return teacher.risk(params, samples.inputs, samples.values, samples.used)

    def value_and_gradient(self, problem: TeacherStudentProblem, params: Weights) -> tuple[Scalar, Weights]:
        return teacher.risk_and_gradient(params, problem.samples)

    def sampled_loss(self, problem: TeacherStudentProblem, params: Weights, key: RandomKey, step: Integer) -> Scalar:
        """The loss on a minibatch, or on every ``subsets``-th sample, from sample ``step mod subsets`` on."""
        samples, n, batch, subsets = problem.samples, self.system.n, self.system.batch, self.system.subsets
        count = jnp.sum(samples.used).astype(jnp.int32)
        if batch is not None:
            rows = jax.random.randint(key, (batch,), 0, count)
            return teacher.risk(params, samples.inputs[rows], samples.values[rows], jnp.ones((batch,), params.dtype))
        rows = jnp.arange(-(-n // subsets), dtype=step.dtype) * subsets + jnp.mod(step, subsets)
        used = jnp.where(rows < n, samples.used[jnp.minimum(rows, n - 1)], 0.0)
        rows = jnp.minimum(rows, n - 1)
        return teacher.risk(params, samples.inputs[rows], samples.values[rows], used)

    def error(self, problem: TeacherStudentProblem, params: Weights) -> Scalar:
        if self.ordered:
            return jnp.linalg.norm(params - problem.teacher) / jnp.linalg.norm(problem.teacher)
        return relative_error(params, problem.teacher)

    def succeeded(self, problem: TeacherStudentProblem, setting: TeacherStudentSetting, params: Weights) -> Flags:
        """Whether the error is at most ``success``; unless ``ordered``, teacher rows are paired with the nearest rows.

        The error of these pairs is at most that with rows matched one to one, and equals it if no row is nearest to two
        teacher rows.
        """
        truth = problem.teacher
        if self.ordered:
            return self.error(problem, params) <= setting.success
        distances = jnp.sum((params[:, None, :] - truth[None, :, :]) ** 2, axis=2)
        return jnp.sqrt(jnp.sum(jnp.min(distances, axis=0))) <= setting.success * jnp.linalg.norm(truth)

    def flow(self, params: Weights) -> Scalar:
        return jnp.mean(jnp.sum(jnp.abs(params), axis=1))

    def measures(
        self, problem: TeacherStudentProblem, setting: TeacherStudentSetting, params: Weights, mask: NeuronMask
    ) -> Measures:
        dtype = params.dtype
        order = jnp.arange(self.system.neurons) if self.ordered else matched(params, problem.teacher)
        covered = jnp.sum((mask[order] & problem.support).astype(dtype))
        squares = eigh(problem.teacher @ problem.teacher.T)[0]
        error = self.error(problem, params)
        found: Measures = {
            "mask_accuracy": covered / jnp.sum(problem.support.astype(dtype)),
            "effective_size": theory.effective_size(mask),
            "conditioning": jnp.sqrt(squares[-1] / jnp.maximum(squares[0], jnp.finfo(dtype).tiny)),
            "success": (error <= jnp.maximum(setting.success, FOUND)).astype(dtype),
            "risk": theory.population_risk(params, problem.teacher) / problem.samples.power,
        }
        if self.system.hessian:
            samples = problem.samples
            hessian = theory.teacher_hessian(problem.teacher, samples.inputs, mask, samples.used)
            least, largest = theory.hessian_range(hessian, mask)
            floor = theory.linearised_noise(hessian, mask, problem.noise, jnp.sum(samples.used))
            floor = floor / jnp.linalg.norm(problem.teacher)
            found |= {"least_eigenvalue": least, "largest_eigenvalue": largest, "noise_floor": floor}
        if self.system.convexity:
            length = NEAR * jnp.linalg.norm(params - problem.teacher)
            found["secant_curvature"] = least_secant_curvature(params, problem.samples, mask, length)
        return found
