"""Multi-layer networks with weight pruning, for any data and any :class:`gpsense.tickets.network.Task`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gpsense._types import Integer, Parameters, RandomKey, Scalar
from gpsense.pruning.weights import MaskTree, Numbers, Prunable, kept_by_layer, layers
from gpsense.systems._contract import Cost, Measure, Measures
from gpsense.systems._weights import WeightModel, WeightsSettingT
from gpsense.tickets.host import BLOCK_BYTES, HostRows
from gpsense.tickets.network import Carried, Samples, Task

MEASURES: Mapping[str, Measure] = {
    "rank": Measure("weights kept", "weights"),
    "kept_share": Measure("share of the weights that was kept"),
    "kept_by_layer": Measure("share of its weights that each layer kept", dims=("layer",)),
    "loss": Measure("mean loss over the training samples", "loss"),
    "loss_curve": Measure("mean loss over the training samples along the run", "loss", ("step",)),
    "gradient_norm": Measure("gradient norm on the mask where it was last checked", "loss / weight"),
}


class NetworkProblem(NamedTuple):
    """Training samples, test samples, and validation samples, if any, whose loss is recorded along the run."""

    train: Samples
    test: Samples
    validation: Samples | None = None


@final
@dataclass(frozen=True)
class NetworkModel(WeightModel[NetworkProblem, WeightsSettingT]):
    """The model of a task with ``n`` training samples; ``tells_weights``: whether the final weights are a measure.

    ``on_host``: whether training inputs stay in the host's memory and are read in batches
    (:class:`gpsense.tickets.host.HostRows`).
    """

    task: Task
    n: int
    batch: int | None
    dtype: str
    tells_weights: bool = False
    on_host: bool = False

    @property
    def stochastic(self) -> bool:
        return self.batch is not None or self.task.random or self.task.carried

    @property
    def carried(self) -> Any:
        if not self.task.carried:
            return None
        marked = Carried(
            *(
                jax.tree.map(lambda leaf, is_state=is_state: np.full(leaf.size, is_state), part)
                for part, is_state in zip(self.shapes, (False, True), strict=True)
            )
        )
        return np.concatenate(jax.tree.leaves(marked))

    @property
    def check_every(self) -> int:
        """Steps between checks; with minibatches, checks on all samples cost at most a twentieth of the steps."""
        return max(50, 20 * self.n // (self.batch or self.n)) if self.stochastic else 10

    @property
    def shapes(self) -> Parameters:
        return _shapes(self.task, self.dtype)

    @property
    def prunable(self) -> Prunable:
        return self.task.prunable(self.shapes)

    @property
    def layers(self) -> list[str]:
        """The paths of the arrays that can be pruned."""
        if self.task.carried:
            return layers(self.shapes.arrays, self.prunable.arrays)
        return layers(self.shapes, self.prunable)

    def start(
        self, problem: NetworkProblem, setting: WeightsSettingT, mask: MaskTree | None, key: RandomKey
    ) -> Parameters:
        return self.task.draw(key, jnp.dtype(self.dtype))

    def loss(self, problem: NetworkProblem, params: Parameters) -> Scalar:
        if isinstance(problem.train.inputs, HostRows):
            return self._loss_in_blocks(problem.train.inputs, problem.train, params)
        return self.task.risk(params, problem.train)

    def _loss_in_blocks(self, inputs: HostRows, samples: Samples, params: Parameters) -> Scalar:
        """The loss with inputs on the host, read a block at a time, and once more for the gradient."""

        def block(params: Parameters, first: Integer) -> Scalar:
            numbers = first + jnp.arange(inputs.block, dtype=jnp.int32)
            inside, numbers = numbers < self.n, jnp.minimum(numbers, self.n - 1)
            values = self.task.loss(self.task.outputs(params, inputs[numbers]), samples.targets[numbers])
            return jnp.sum(jnp.where(inside, values, 0.0))

        firsts = jnp.arange(0, self.n, inputs.block, dtype=jnp.int32)
        add = lambda total, first: (total + jax.checkpoint(block)(params, first), None)  # noqa: E731
        return jax.lax.scan(add, jnp.zeros((), self.dtype), firsts)[0] / self.n

    def sampled_loss(self, problem: NetworkProblem, params: Parameters, key: RandomKey, step: Integer) -> Scalar:
        """The loss on a minibatch drawn with replacement from the rows in use, which come first, or on all of them."""
        return self.task.risk(params, *self._sampled(problem, key))

    def sampled_gradient(
        self, problem: NetworkProblem, params: Parameters, key: RandomKey, step: Integer
    ) -> Parameters:
        if not self.task.carried:
            return super().sampled_gradient(problem, params, key, step)
        samples, dropout = self._sampled(problem, key)
        gradient, state = jax.grad(self.task.trained, has_aux=True)(params, samples, dropout)
        return Carried(gradient.arrays, state)

    def _sampled(self, problem: NetworkProblem, key: RandomKey) -> tuple[Samples, RandomKey | None]:
        """The samples of a step, and its key for dropout (None: no dropout)."""
        inputs, targets, used = problem.train
        dropout = jax.random.fold_in(key, 1) if self.task.random else None
        if self.batch is None:
            return problem.train, dropout
        rows = jax.random.randint(key, (self.batch,), 0, jnp.sum(used).astype(jnp.int32))
        return Samples(inputs[rows], targets[rows], jnp.ones(rows.shape, used.dtype)), dropout

    def error(self, problem: NetworkProblem, params: Parameters) -> Scalar:
        return self.task.mistakes(params, problem.test, problem.train.inputs)

    def records(self, problem: NetworkProblem, params: Parameters) -> dict[str, Scalar]:
        if problem.validation is None:
            return {}
        return {"validation_curve": self.task.test_risk(params, problem.validation, problem.train.inputs)}

    def flow(self, params: Parameters) -> Scalar:
        return self.task.flow(params)

    def measures(
        self, problem: NetworkProblem, setting: WeightsSettingT, params: Parameters, mask: MaskTree
    ) -> Measures:
        told = {"kept_by_layer": kept_by_layer(mask, self.prunable).astype(self.dtype)}
        if self.tells_weights:
            told["weights"] = Numbers(self.shapes, self.prunable).vector(params)
        if self.tells_weights and self.task.stateful:
            told["averages"] = self.task.state_vector(params, problem.train.inputs)
        return told

    def cost(self, test: int) -> Cost:
        """The cost with ``test`` test samples: a step sees a batch, or all; records and checks see all samples."""
        train, each = self.n, max(prod(self.task.shape), 1)
        weights = sum(leaf.size for leaf in jax.tree.leaves(self.shapes))
        number = jnp.dtype(self.dtype).itemsize
        read = min(train, BLOCK_BYTES // (number * each) + 1) if self.on_host else train
        numbers = each * (read + test)
        seen = train if self.batch is None else self.batch
        return Cost(
            flops=6.0 * seen * weights,
            problem_bytes=number * numbers * 2,
            sample_bytes=number * numbers * 2,
            cell_bytes=number * (10 * weights + 4 * numbers),
            kept_bytes=number * 6 * weights,
            once=60.0 * numbers,
        )


@lru_cache(maxsize=8)
def _shapes(task: Task, dtype: str) -> Any:
    return eqx.filter_eval_shape(task.draw, jax.random.key(0), jnp.dtype(dtype))
