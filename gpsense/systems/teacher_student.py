"""Masked teacher and student (arXiv 2110.05667): two-layer networks that see some of their inputs each.

``y = (1/K) sum_j relu(w_j^T x) + noise``; the student has as many neurons, a mask, and the same second layer.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import theory
from gpsense._linalg import eigh
from gpsense._types import Integer, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.systems._contract import Cost
from gpsense.systems._weights import TEACHER, Ticket, WeightsSetting, WeightsSpec, WeightSystem
from gpsense.tickets import teacher
from gpsense.tickets.matching import matched, relative_error
from gpsense.tickets.teacher import DRAWS, SUPPORTS, TeacherSamples
from gpsense.tickets.tensor import tensor_start

FOUND = 1e-4  # a relative error that counts as success, unless a larger one is asked for
STARTS = ("near", "gaussian", "tensor")


@dataclass(frozen=True)
class TeacherStudentSpec(WeightsSpec):
    """Static: shapes, counts and names, with those of :class:`WeightsSpec`.

    ``neurons`` K see ``support`` r of ``dim`` inputs each: ``supports`` independent or overlap; ``draw`` of the
    teacher's weights: uniform on [-1/2, 1/2] or gaussian. ``n`` samples and ``support`` are bounds where the instance
    gives them. ``rule`` teacher is a mask that knows the teacher's, as far as its accuracy goes. ``start``: near the
    teacher, gaussian, or by the tensor method. ``subsets`` disjoint parts of the samples take turns, a step each.
    ``hessian``: eigenvalues of the loss at the teacher are measured.
    """

    dim: int = 100
    neurons: int = 5
    support: int = 20
    supports: str = "independent"
    draw: str = "uniform"
    n: int = 400
    rule: str = TEACHER
    start: str = "near"
    subsets: int = 1
    hessian: bool = False
    optimizer: str = "momentum"


class TeacherStudentInstance(eqx.Module):
    """Traced numbers that change the data: ``n`` samples and ``support`` r of a neuron (None: the spec's).

    ``noise``: over the root mean square of y; ``condition``: norm of the first teacher row over that of the last, but
    for chance; ``overlap``: share of a support that all neurons have; ``uneven``: sizes from (1 - uneven) r to
    (1 + uneven) r.
    """

    n: ScalarLike | None = None
    support: ScalarLike | None = None
    noise: ScalarLike = 0.0
    condition: ScalarLike = 1.0
    overlap: ScalarLike = 0.0
    uneven: ScalarLike = 0.0


class TeacherStudentSetting(WeightsSetting):
    """Traced numbers that leave the data alone, with those of :class:`WeightsSetting`.

    ``kept`` None: all; with rule teacher as many inputs as the teacher's neuron has. ``accuracy``: share of a support
    that a mask of rule teacher covers. ``distance`` of a near start, over ||W*||_F; ``start_scale``: norm of a gaussian
    one, over ||W*||_F. A run ends with ``success`` where the relative error is at most that, but for the rounds of
    iterative pruning.
    """

    rate: ScalarLike = 10.0
    accuracy: ScalarLike = 1.0
    distance: ScalarLike = 0.1
    start_scale: ScalarLike = 1.0
    success: ScalarLike = 1e-4


class TeacherStudentProblem(eqx.Module):
    """Samples, the standard deviation of their noise, the teacher's weights (K, d) and its supports."""

    samples: TeacherSamples
    noise: Scalar
    teacher: Float[Array, "neurons dim"]
    support: Bool[Array, "neurons dim"]


def sample_teacher_student(
    spec: TeacherStudentSpec, instance: TeacherStudentInstance, key: RandomKey
) -> TeacherStudentProblem:
    """Draw supports, weights and samples; a key gives the same ones at every noise, and fewer are the first of more."""
    support_key, weight_key, sample_key = jax.random.split(key, 3)
    dtype = jnp.dtype(spec.dtype)
    size = spec.support if instance.support is None else instance.support
    sizes = teacher.support_sizes(spec.neurons, size, instance.uneven, spec.dim, dtype)
    support = teacher.draw_supports(support_key, spec.dim, sizes, spec.supports, instance.overlap)
    weights = teacher.draw_weights(weight_key, support, spec.draw, instance.condition, dtype)
    count = spec.n if instance.n is None else instance.n
    samples = teacher.draw_samples(sample_key, weights, spec.n, count, instance.noise)
    noise = jnp.asarray(instance.noise, dtype) * jnp.sqrt(samples.power)
    return TeacherStudentProblem(samples, noise, weights, support)


class TeacherStudent(WeightSystem):
    """Masked teacher and student behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "teacher_student"
    Spec: ClassVar[type] = TeacherStudentSpec
    Instance: ClassVar[type] = TeacherStudentInstance
    Setting: ClassVar[type] = TeacherStudentSetting
    rules: ClassVar[tuple[str, ...]] = (TEACHER, *WeightSystem.rules)
    steps: ClassVar[tuple[int, int]] = (0, 2000)
    table: ClassVar[tuple[str, ...]] = ("rank", "mask_accuracy", "effective_size", "success", "error")
    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        "rank": ("weights kept", "weights"),
        "kept_share": ("share of the weights that was kept", "1"),
        "mask_accuracy": ("share of the teacher's supports that the mask covers", "1"),
        "effective_size": ("r~ of the mask: the paper's measure of what is left", "inputs"),
        "conditioning": ("largest over smallest singular value of the teacher's weights", "1"),
        "success": ("1 where the relative error is at most 1e-4, or train.success if that is more", "1"),
        "error": ("||W - W*||_F / ||W*||_F, rows in their best order unless started near the teacher", "1"),
        "error_trained": ("relative error of the weights before pruning", "1"),
        "error_pruned": ("relative error of the weights where training of the mask began", "1"),
        "error_curve": ("relative error of the weights along the run", "1"),
        "risk": ("E (yhat - y)^2 without noise, over E y^2, exact", "1"),
        "loss": ("(1/2N) sum (yhat - y)^2 over the samples", "loss"),
        "loss_curve": ("(1/2N) sum (yhat - y)^2 along the run", "loss"),
        "gradient_norm": ("gradient norm on the mask where training ended", "loss / weight"),
        "least_eigenvalue": ("smallest eigenvalue of the loss at the teacher, on the mask", "loss / weight^2"),
        "largest_eigenvalue": ("largest eigenvalue of the loss at the teacher, on the mask", "loss / weight^2"),
        "noise_floor": ("relative error of least squares with the teacher's activation pattern, from the Hessian", "1"),
    }

    def check_data(self, spec: Any) -> None:
        for field, name, known in (
            ("problem.supports", spec.supports, SUPPORTS),
            ("problem.draw", spec.draw, DRAWS),
            ("train.start", spec.start, STARTS),
        ):
            if name not in known:
                raise BadInput(field, f"{self.name} has no {name!r}", f"use one of {', '.join(known)}")
        if spec.support > spec.dim:
            raise BadInput("problem.support", f"{spec.support} of {spec.dim} inputs", "use at most problem.dim")
        if spec.subsets > spec.n:
            raise BadInput("train.subsets", f"{spec.subsets} parts of {spec.n} samples", "use at most problem.n")
        if spec.subsets > 1 and spec.batch is not None:
            raise BadInput("train.batch", "steps see disjoint subsets already", "leave out batch or subsets")
        if spec.start == "tensor" and spec.dim < spec.neurons:
            raise BadInput("train.start", f"{spec.neurons} directions in {spec.dim} inputs", "use fewer train.neurons")

    def traceable(self, spec: Any, sizes: dict[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Both: rows that are not in use cost what those in use do."""
        return frozenset(sizes) & {"n", "support"}

    def describe(self, spec: Any) -> str:
        return (
            f"rule {spec.rule}, start {spec.start}, {spec.neurons} neurons, dim {spec.dim}, n up to {spec.n}, "
            f"{spec.optimizer}"
        )

    def cost(self, spec: Any) -> Cost:
        number, weights = jnp.dtype(spec.dtype).itemsize, spec.neurons * spec.dim
        samples = spec.n * (spec.dim + 2)
        hessian = spec.hessian * weights**2
        return Cost(
            flops=4.0 * spec.n * weights + 40.0 * weights,
            problem_bytes=number * (samples + 2 * weights),
            sample_bytes=number * 2 * samples,
            cell_bytes=number * (6 * weights + 3 * spec.n * spec.neurons),
            kept_bytes=number * (6 * weights + 4 * hessian),
            once=60.0 * samples + 2.0 * spec.n * hessian + 10.0 * spec.hessian * weights**3,
        )

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return sample_teacher_student(spec, instance, key)

    def given_mask(self, spec: Any, problem: Any, setting: Any, key: RandomKey) -> Any:
        dtype = problem.teacher.dtype
        sizes = jnp.sum(problem.support, axis=1).astype(dtype)
        if setting.kept is not None:
            sizes = jnp.full_like(sizes, jnp.clip(jnp.round(jnp.asarray(setting.kept, dtype) * spec.dim), 1, spec.dim))
        return teacher.student_mask(key, problem.support, sizes, setting.accuracy)

    def start(self, spec: Any, problem: Any, setting: Any, mask: Any, key: RandomKey) -> Any:
        inside = jnp.ones(problem.support.shape, bool) if mask is None else mask
        if spec.start == "near":
            return teacher.near_start(key, problem.teacher, inside, setting.distance)
        if spec.start == "gaussian":
            return teacher.random_start(key, problem.teacher, inside, setting.start_scale)
        samples = problem.samples
        return tensor_start(samples.inputs, samples.values, samples.used, spec.neurons, mask)

    def loss(self, spec: Any, problem: Any, params: Any) -> Scalar:
        samples = problem.samples
        return teacher.risk(params, samples.inputs, samples.values, samples.used)

    def value_and_gradient(self, spec: Any, problem: Any, params: Any) -> tuple[Scalar, Any]:
        return teacher.risk_and_gradient(params, problem.samples)

    def stochastic(self, spec: Any) -> bool:
        return spec.batch is not None or spec.subsets > 1

    def sampled_loss(self, spec: Any, problem: Any, params: Any, key: RandomKey, step: Integer) -> Scalar:
        """The loss on a minibatch, or on the step's part of the samples: every ``subsets``-th."""
        samples = problem.samples
        count = jnp.sum(samples.used).astype(jnp.int32)
        if spec.batch is not None:
            rows = jax.random.randint(key, (spec.batch,), 0, count)
            return teacher.risk(
                params, samples.inputs[rows], samples.values[rows], jnp.ones((spec.batch,), params.dtype)
            )
        rows = jnp.arange(-(-spec.n // spec.subsets), dtype=step.dtype) * spec.subsets + jnp.mod(step, spec.subsets)
        used = jnp.where(rows < spec.n, samples.used[jnp.minimum(rows, spec.n - 1)], 0.0)
        rows = jnp.minimum(rows, spec.n - 1)
        return teacher.risk(params, samples.inputs[rows], samples.values[rows], used)

    def error(self, spec: Any, problem: Any, params: Any) -> Scalar:
        if spec.start == "near":
            return jnp.linalg.norm(params - problem.teacher) / jnp.linalg.norm(problem.teacher)
        return relative_error(params, problem.teacher)

    def succeeded(self, spec: Any, problem: Any, setting: Any, params: Any) -> Any:
        """Whether every row of the teacher has one so near that all together meet ``success``.

        No more than rows in their best order would have to, and no less where the teacher's rows differ.
        """
        truth = problem.teacher
        if spec.start == "near":
            return self.error(spec, problem, params) <= setting.success
        distances = jnp.sum((params[:, None, :] - truth[None, :, :]) ** 2, axis=2)
        return jnp.sqrt(jnp.sum(jnp.min(distances, axis=0))) <= setting.success * jnp.linalg.norm(truth)

    def flow(self, spec: Any, problem: Any, params: Any) -> Scalar:
        return jnp.mean(jnp.sum(jnp.abs(params), axis=1))

    def measures(self, spec: Any, problem: Any, setting: Any, state: Ticket) -> dict[str, Scalar]:
        params, mask = state.run.factor, state.mask
        dtype = params.dtype
        order = jnp.arange(spec.neurons) if spec.start == "near" else matched(params, problem.teacher)
        covered = jnp.sum((mask[order] & problem.support).astype(dtype))
        squares = eigh(problem.teacher @ problem.teacher.T)[0]
        error = self.error(spec, problem, params)
        found = {
            "mask_accuracy": covered / jnp.sum(problem.support.astype(dtype)),
            "effective_size": theory.effective_size(mask),
            "conditioning": jnp.sqrt(squares[-1] / jnp.maximum(squares[0], jnp.finfo(dtype).tiny)),
            "success": (error <= jnp.maximum(setting.success, FOUND)).astype(dtype),
            "risk": theory.population_risk(params, problem.teacher) / problem.samples.power,
        }
        if spec.hessian:
            samples = problem.samples
            hessian = theory.teacher_hessian(problem.teacher, samples.inputs, mask, samples.used)
            least, largest = theory.hessian_range(hessian, mask)
            floor = theory.linearised_noise(hessian, mask, problem.noise, jnp.sum(samples.used))
            floor = floor / jnp.linalg.norm(problem.teacher)
            found |= {"least_eigenvalue": least, "largest_eigenvalue": largest, "noise_floor": floor}
        return found
