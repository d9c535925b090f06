"""A signal beside noise, learned by a convolutional network whose weights are pruned at random before training.

A sample is two patches: ``y mu e_1``, with the label y = +-1, and Gaussian noise xi orthogonal to ``e_1``. The network
is ``f(x) = F_+(x) - F_-(x)`` with ``F_j(x) = sum_r relu(<w_jr, y mu e_1>)^3 + relu(<w_jr, xi>)^3``, a sum over filters
w_jr. A random share p of all weights is kept before training, and scaled by ``p^(-1/2)``, so that noise contributes as
much to the output for every p. The network can fit the training samples by the signal, which generalises, or by their
noise. The setting follows arXiv 2301.00335, of which only the abstract is known here; sizes and the cube are derived.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.fields import Field, Traced
from gpsense.systems.own import PipelineSetting, TrainPruneFineTune, weights

Filters = Float[Array, "signs neurons dim"]


class PatchesData(Traced):
    """Traced numbers that change the problem: the length of the signal, the share of weights kept before training."""

    signal: Annotated[ScalarLike, Field("problem", "norm mu of the signal patch", above=0)] = 0.3
    share: Annotated[
        ScalarLike,
        Field(
            "problem", "share of the weights kept by the random mask", above=0, at_most=1, label="share of weights kept"
        ),
    ] = 1.0


class PatchesSetting(PipelineSetting):
    """The numbers of :class:`PipelineSetting`, and the scale of the start."""

    start_scale: Annotated[ScalarLike, Field("train", "standard deviation of the weights at the start", above=0)] = 0.02


class PatchesProblem(NamedTuple):
    """Labels (n,) and noise patches (n, dim) to train and test on, norm of the signal, mask and share of weights."""

    labels: Float[Array, " n"]
    noise: Float[Array, "n dim"]
    test_labels: Float[Array, " test"]
    test_noise: Float[Array, "test dim"]
    signal: Scalar
    mask: Bool[Array, "signs neurons dim"]
    share: Scalar


@final
@dataclass(frozen=True, kw_only=True)
class Patches(TrainPruneFineTune[PatchesData, PatchesProblem]):
    """A two-layer convolutional network on a signal and a noise patch, its weights pruned at random before training."""

    name: ClassVar[str] = "patches"
    Data: ClassVar[type[PatchesData]] = PatchesData
    Setting: ClassVar[type[PatchesSetting]] = PatchesSetting
    parts = weights()

    dim: Annotated[int, Field("problem", "length of a patch", at_least=2, label="dimension d")] = 300
    neurons: Annotated[int, Field("problem", "filters of each sign", at_least=1)] = 32
    n: Annotated[int, Field("problem", "training samples", at_least=1, label="samples n")] = 40
    test: Annotated[int, Field("problem", "test samples", at_least=1)] = 1000

    def draw(self, data: PatchesData, key: RandomKey) -> PatchesProblem:
        """Draw samples and mask; the same key gives the same samples, and nested masks for different shares."""
        train, test, mask = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)

        def samples(key: RandomKey, count: int) -> tuple[Array, Array]:
            labels, noise = jax.random.split(key)
            drawn = jax.random.normal(noise, (count, self.dim), dtype) / jnp.sqrt(jnp.asarray(self.dim, dtype))
            return jax.random.rademacher(labels, (count,), dtype), drawn.at[:, 0].set(0.0)

        level = jax.random.uniform(mask, (2, self.neurons, self.dim), dtype)
        return PatchesProblem(
            *samples(train, self.n),
            *samples(test, self.test),
            jnp.asarray(data.signal, dtype),
            level < data.share,
            jnp.asarray(data.share, dtype),
        )

    def init(self, setting: PatchesSetting, key: RandomKey) -> Filters:
        dtype = jnp.dtype(self.dtype)
        return jnp.asarray(setting.start_scale, dtype) * jax.random.normal(key, (2, self.neurons, self.dim), dtype)

    def outputs(self, params: Filters, problem: PatchesProblem, labels: Array, noise: Array) -> Array:
        """The outputs f(x) (n,) on samples with these labels and noise patches."""
        filters = jnp.where(problem.mask, params / jnp.sqrt(problem.share), 0.0)
        cube = lambda z: jax.nn.relu(z) ** 3  # noqa: E731
        signal = cube(jnp.einsum("n,sr->nsr", labels * problem.signal, filters[:, :, 0]))
        both = jnp.sum(signal + cube(jnp.einsum("srd,nd->nsr", filters, noise)), axis=2)
        return both[:, 1] - both[:, 0]

    def loss(self, params: Filters, problem: PatchesProblem) -> Scalar:
        """The mean logistic loss on the training samples."""
        outputs = self.outputs(params, problem, problem.labels, problem.noise)
        return jnp.mean(jax.nn.softplus(-problem.labels * outputs))

    def error(self, params: Filters, problem: PatchesProblem) -> Scalar:
        """The share of misclassified test samples; an output of exactly 0 counts one half."""
        margins = problem.test_labels * self.outputs(params, problem, problem.test_labels, problem.test_noise)
        return jnp.mean((1.0 - jnp.sign(margins)) / 2.0)
