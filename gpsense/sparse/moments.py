"""First and second moments of samples (x, y) about the mean of y, summed block by block."""

import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from gpsense._types import Scalar, Symmetric, Values, Vectors

Vector = Float[Array, " dim"]
Used = Bool[Array, " n"] | Float[Array, " n"]


class Moments(eqx.Module):
    """The moments of n samples that the methods read; x is assumed centred, y is not.

    ``xy = (1/n) sum (y - ybar) x`` and ``xx = (1/n) sum x x^T``; ``yxx = (1/n) sum (y - ybar) x x^T``, which for
    x ~ N(0, I) estimates ``E y (x x^T - I)``; ``y2 = (1/n) sum (y - ybar)^2``. All are 0 without a sample.
    """

    count: Scalar
    mean_y: Scalar
    xy: Vector
    xx: Symmetric
    yxx: Symmetric
    y2: Scalar


class Sums(eqx.Module):
    """Raw sums over the samples so far, with y minus ``centre``, the mean y of the first block that had a sample.

    If the mean of y were subtracted only at the end, digits would be lost to cancellation in float32 where it is far
    above the spread of y.
    """

    count: Scalar
    centre: Scalar
    y: Scalar
    yy: Scalar
    x: Vector
    yx: Vector
    xx: Symmetric
    yxx: Symmetric

    @staticmethod
    def zeros(dim: int, dtype: DTypeLike = jnp.float32) -> "Sums":
        """The sums over no samples: all 0."""
        none, vector, matrix = jnp.zeros((), dtype), jnp.zeros(dim, dtype), jnp.zeros((dim, dim), dtype)
        return Sums(none, none, none, none, vector, vector, matrix, matrix)

    def add(self, x: Vectors, y: Values, used: Used | None = None) -> "Sums":
        """The sums with the samples x (n, dim), y (n,) added, except those whose ``used`` is 0 or False."""
        on = jnp.ones(len(y), bool) if used is None else used.astype(bool)
        size = jnp.sum(on.astype(y.dtype))
        mean = jnp.sum(jnp.where(on, y, 0.0)) / jnp.maximum(size, 1.0)
        centre = jnp.where(self.count > 0, self.centre, mean)
        y = jnp.where(on, y - centre, 0.0)
        x = jnp.where(on[:, None], x, 0.0)
        return Sums(
            count=self.count + size,
            centre=centre,
            y=self.y + jnp.sum(y),
            yy=self.yy + jnp.sum(y**2),
            x=self.x + jnp.sum(x, axis=0),
            yx=self.yx + x.T @ y,
            xx=self.xx + x.T @ x,
            yxx=self.yxx + x.T @ (y[:, None] * x),
        )

    def moments(self) -> Moments:
        """The moments of all samples: ``(1/n) (sum (y - c) f - (mean of y - c) sum f)``, c the centre, f x or x x^T."""
        size = jnp.maximum(self.count, 1.0)
        shift = self.y / size
        return Moments(
            count=self.count,
            mean_y=self.centre + shift,
            xy=(self.yx - shift * self.x) / size,
            xx=self.xx / size,
            yxx=(self.yxx - shift * self.xx) / size,
            y2=jnp.maximum(self.yy / size - shift**2, 0.0),
        )


def moments(x: Vectors, y: Values, used: Used | None = None) -> Moments:
    """Moments of samples x (n, dim), y (n,) held in memory; those whose ``used`` is 0 or False are left out."""
    return Sums.zeros(x.shape[1], x.dtype).add(x, y, used).moments()
