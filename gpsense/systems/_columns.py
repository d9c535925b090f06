"""Systems pruned by columns: training on loss plus penalty, deleting columns of small score, fine-tuning on the loss.

:class:`ColumnSystem` makes the phases of the contract out of smaller functions: start, losses, scores, mask, error.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense import descent, pruning
from gpsense._linalg import singular_values
from gpsense._types import Integer, RandomKey, Scalar
from gpsense.descent import BUDGET, DIVERGED, RUNNING, Descent, Method, Rates, Target
from gpsense.keys import Keys
from gpsense.sensing import methods
from gpsense.sensing.methods import Baseline, Tuning
from gpsense.stationarity import certificate


class Pruned(eqx.Module):
    """What training left behind, at the moment of pruning."""

    mask: Any
    scores: Any
    rank: Scalar
    margin: Scalar
    error_trained: Scalar
    error_pruned: Scalar
    loss_trained: Scalar
    gradient_norm_trained: Scalar
    curvature_trained: Scalar
    curvature_residual: Scalar
    coherence: Scalar
    steps_train: Integer
    status_train: Integer


class ColumnSystem(ABC):
    """What the systems pruned by columns share; of a Spec it reads ``dim``, ``width`` and ``curvature_steps``.

    ``curvature_steps`` are the Lanczos steps of a certificate, 0 for none. A Spec may name a baseline, which
    then takes the place of training; it is neither pruned nor fine-tuned.
    """

    table: ClassVar[tuple[str, ...]] = ("rank", "error_trained", "error_pruned", "error")
    steps: ClassVar[tuple[int, int]] = (1000, 300)

    @abstractmethod
    def method(self, spec: Any) -> Method:
        """How both phases descend."""

    @abstractmethod
    def baseline(self, spec: Any) -> Baseline | None:
        """The baseline to run in place of training, pruning and fine-tuning, if the spec names one."""

    @abstractmethod
    def tuning(self, setting: Any) -> Tuning:
        """The numbers such a method reads."""

    @abstractmethod
    def rates(self, setting: Any) -> tuple[Rates, Rates]:
        """Step sizes and tolerances of training and of fine-tuning."""

    @abstractmethod
    def active(self, spec: Any, setting: Any) -> Any:
        """Which parts of the parameters are in use where a size is traced: as :meth:`scores`, boolean."""

    @abstractmethod
    def start(self, spec: Any, setting: Any, key: RandomKey) -> Any:
        """Parameters that training starts from."""

    @abstractmethod
    def objectives(self, spec: Any, problem: Any, setting: Any) -> tuple[Target, Target]:
        """What training and what fine-tuning minimise, with gradients."""

    @abstractmethod
    def scores(self, params: Any) -> Any:
        """One number per prunable part of the parameters."""

    @abstractmethod
    def rotate(self, spec: Any, params: Any) -> Any:
        """The parameters in the coordinates that pruning sees."""

    @abstractmethod
    def mask(self, spec: Any, problem: Any, setting: Any, scores: Any) -> Any:
        """Which parts stay, by the rule the spec names; a part out of use has score NaN and goes."""

    @abstractmethod
    def margin(self, spec: Any, setting: Any, scores: Any, mask: Any) -> Scalar:
        """How far the mask is from changing, in units of the scores."""

    @abstractmethod
    def coherence(self, params: Any, mask: Any) -> Scalar:
        """How far the parts that stay are from being independent: 0 where they are, at most 1."""

    @abstractmethod
    def masked(self, params: Any, mask: Any) -> Any:
        """The parameters with the pruned parts zero, shapes kept."""

    @abstractmethod
    def compact(self, params: Any, mask: Any, width: int) -> Any:
        """The parameters at a smaller static width; the kept parts must fit."""

    @abstractmethod
    def error(self, problem: Any, params: Any) -> Scalar:
        """Distance to the truth, relative."""

    def stride(self, spec: Any) -> int:
        return self.method(spec).check_every

    def donates(self, spec: Any, width: int) -> bool:
        return self.baseline(spec) is None and not self.method(spec).perturb and width == spec.width

    def parameters(self, spec: Any, state: Any) -> Any:
        """The parameters a state of either phase stands at."""
        baseline = self.baseline(spec)
        return state.factor if baseline is None or isinstance(state, Descent) else baseline.factor(state.state)

    def begin(self, spec: Any, problem: Any, setting: Any, keys: Keys) -> Descent | methods.Run:
        """Parameters drawn, optimizer fresh; a baseline's own start where the spec names one."""
        baseline = self.baseline(spec)
        if baseline is not None:
            tuning = self.tuning(setting)
            return methods.start(baseline, problem.objective, spec.dim, spec.width, tuning, keys.start)
        rates, _ = self.rates(setting)
        return descent.start_descent(self.method(spec), self.start(spec, setting, keys.start), rates, keys.noise)

    def train(self, spec: Any, problem: Any, setting: Any, state: Any, n_steps: int) -> Any:
        """Up to ``n_steps`` more steps on loss plus penalty, or of the baseline."""
        baseline = self.baseline(spec)
        if baseline is not None:
            return methods.advance(baseline, problem.objective, self.tuning(setting), state, n_steps)
        objective, _ = self.objectives(spec, problem, setting)
        return descent.advance_descent(self.method(spec), objective, state, self.rates(setting)[0], n_steps)

    def prune(self, spec: Any, problem: Any, setting: Any, state: Any) -> Pruned:
        """Score the trained parameters, set the rule to work, and measure before and after.

        A baseline is not pruned: its scores are singular values, its rank the number above a tenth of the largest.
        """
        trained, params = self.parameters(spec, state), self._turned(spec, state)
        active = self.active(spec, setting)
        if self.baseline(spec) is None:
            scores = jnp.where(active, self.scores(params), jnp.nan)
            counted = mask = self.mask(spec, problem, setting, scores)
            margin = self.margin(spec, setting, scores, mask)
        else:
            scores, mask = singular_values(params), active
            counted, margin = pruning.threshold_mask(scores, 0.1 * scores[0]), pruning.margin(scores, 0.1 * scores[0])
        pruned = self.masked(params, mask)
        penalised, plain = self.objectives(spec, problem, setting)
        loss, _ = plain(trained)
        _, gradient = penalised(trained)
        norm = penalised.gradient_norm(trained, gradient, self.rates(setting)[0].rate)
        curvature, residual = self._curvature(spec, penalised, trained, active)
        return Pruned(
            mask=mask,
            scores=-jnp.sort(-scores),
            rank=counted.sum().astype(loss.dtype),
            margin=margin,
            error_trained=self.error(problem, trained),
            error_pruned=self.error(problem, pruned),
            loss_trained=loss,
            gradient_norm_trained=norm,
            curvature_trained=curvature,
            curvature_residual=residual,
            coherence=self.coherence(params, mask),
            steps_train=state.steps,
            status_train=jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status),
        )

    def begin_fine_tuning(
        self, spec: Any, problem: Any, setting: Any, state: Any, pruned: Pruned, width: int
    ) -> Descent:
        """The pruned parameters at a static width, optimizer fresh; diverged cells stay stopped, baselines end."""
        _, rates = self.rates(setting)
        params = self.compact(self._turned(spec, state), pruned.mask, width)
        fresh = descent.start_descent(self._plain(spec), params, rates)
        ended = pruned.status_train == DIVERGED if self.baseline(spec) is None else jnp.asarray(True)
        return eqx.tree_at(lambda s: s.status, fresh, jnp.where(ended, pruned.status_train, fresh.status))

    def fine_tune(self, spec: Any, problem: Any, setting: Any, state: Descent, n_steps: int) -> Descent:
        """Up to ``n_steps`` more steps on the loss alone."""
        _, objective = self.objectives(spec, problem, setting)
        return descent.advance_descent(self._plain(spec), objective, state, self.rates(setting)[1], n_steps)

    def record(self, spec: Any, problem: Any, setting: Any, state: Any) -> dict[str, Scalar]:
        """Loss (without penalty) and error of the state as it stands."""
        params = self.parameters(spec, state)
        loss, _ = self.objectives(spec, problem, setting)[1](params)
        return {"loss_curve": loss, "error_curve": self.error(problem, params)}

    def finish(self, spec: Any, problem: Any, setting: Any, state: Descent, pruned: Pruned) -> dict[str, Any]:
        """All measures of a finished cell by name; numbers of a diverged cell are NaN, its status says why."""
        loss, gradient = self.objectives(spec, problem, setting)[1](state.factor)
        status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
        measures = {
            "rank": pruned.rank,
            "error_trained": pruned.error_trained,
            "error_pruned": pruned.error_pruned,
            "error": self.error(problem, state.factor),
            "loss_trained": pruned.loss_trained,
            "loss": loss,
            "gradient_norm_trained": pruned.gradient_norm_trained,
            "curvature_trained": pruned.curvature_trained,
            "curvature_residual": pruned.curvature_residual,
            "coherence": pruned.coherence,
            "gradient_norm": jnp.sqrt(jnp.sum(gradient**2)),
            "margin": pruned.margin,
            "column_norms": pruned.scores,
        }
        diverged = status == DIVERGED
        measures = {name: jnp.where(diverged, jnp.nan, value) for name, value in measures.items()}
        return measures | {
            "steps_train": pruned.steps_train,
            "steps_fine_tune": state.steps,
            "status_train": pruned.status_train,
            "status": status,
        }

    def _plain(self, spec: Any) -> Method:
        """The optimizer without perturbation: fine-tuning is plain descent."""
        return Method(self.method(spec).optimizer)

    def _turned(self, spec: Any, state: Any) -> Any:
        """The trained parameters in the coordinates that pruning sees; a baseline's as they are."""
        params = self.parameters(spec, state)
        return params if self.baseline(spec) else self.rotate(spec, params)

    def _curvature(self, spec: Any, penalised: Target, params: Any, active: Any) -> tuple[Scalar, Scalar]:
        """Smallest Hessian eigenvalue of what training minimised and its residual; NaN where the spec asks for none."""
        if self.baseline(spec) is not None or spec.curvature_steps == 0:
            nan = jnp.full((), jnp.nan, params.dtype)
            return nan, nan
        found = certificate(lambda at: penalised(at)[1], params, jax.random.key(0), spec.curvature_steps, active)
        return found.curvature, found.residual
