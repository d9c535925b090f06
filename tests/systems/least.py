"""The least system: sparse linear regression, pruned by input.

Its error is the loss on the samples; for a held-out one, have ``draw`` return further samples beside these and define
``error(self, w, problem)``, which reads them.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from gpsense import Field, TrainPruneFineTune
from gpsense.fields import Traced
from gpsense.systems.own import groups


class Noise(Traced):
    noise: Annotated[float, Field("problem", "standard deviation of the noise", at_least=0)] = 0.1


@dataclass(frozen=True, kw_only=True)
class LeastSquares(TrainPruneFineTune):
    """Linear regression on two of many inputs, pruned by input."""

    name, Data, parts = "least_squares", Noise, groups(lambda w: w, axis=0, unit="inputs")
    dim: Annotated[int, Field("problem", "inputs", at_least=2)] = 20
    n: Annotated[int, Field("problem", "samples", at_least=1)] = 100

    def draw(self, data, key):
        drawn = jax.random.normal(key, (self.n, self.dim + 1), self.dtype)
        x = drawn[:, 1:]
        return x, x[:, 0] - 2 * x[:, 1] + data.noise * drawn[:, 0]

    def init(self, setting, key):
        return jnp.zeros(self.dim)

    def loss(self, w, problem):
        return jnp.mean((problem[0] @ w - problem[1]) ** 2)
