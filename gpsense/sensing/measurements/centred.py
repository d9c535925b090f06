"""Measurements restricted to a part and centred: the map of a loss with a free additive constant."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from gpsense._types import Factor, PackedRows, Symmetric, Values
from gpsense.sensing.measurements._base import Measurements
from gpsense.sensing.symmetric import svec


class Centred(Measurements):
    """``A_i = s_i (B_i - C)``: B_i of the map ``inner``, ``scales`` s (n,), ``mean`` C (dim, dim), or None for C = 0.

    Measurements of scale 0 are left out: they are zero in every product. Built by :func:`centred_measurements`.
    """

    inner: Measurements
    scales: Values
    mean: Symmetric | None = None

    def __check_init__(self) -> None:
        chex.assert_rank(self.scales, 1)

    @property
    def dim(self) -> int:
        return self.inner.dim

    @property
    def n(self) -> int:
        return self.inner.n

    def forward(self, factor: Factor) -> Values:
        values = self.inner.forward(factor)
        return self.scales * (values if self.mean is None else values - jnp.sum(factor * (self.mean @ factor)))

    def apply(self, matrix: Symmetric) -> Values:
        values = self.inner.apply(matrix)
        return self.scales * (values if self.mean is None else values - jnp.sum(self.mean * matrix))

    def bilinear(self, first: Factor, second: Factor) -> Values:
        values = self.inner.bilinear(first, second)
        return self.scales * (values if self.mean is None else values - jnp.sum(first * (self.mean @ second)))

    def adjoint(self, values: Values) -> Symmetric:
        scaled = self.scales * values
        adjoint = self.inner.adjoint(scaled)
        return adjoint if self.mean is None else adjoint - jnp.sum(scaled) * self.mean

    def pull(self, factor: Factor, values: Values) -> Factor:
        scaled = self.scales * values
        pull = self.inner.pull(factor, scaled)
        return pull if self.mean is None else pull - jnp.sum(scaled) * (self.mean @ factor)

    def flops(self, width: int) -> float:
        return self.inner.flops(width)

    def take(self, index: Int[Array, " m"]) -> "Centred":
        """The measurements with these indices; their scales and the mean are unchanged."""
        return Centred(self.inner.take(index), self.scales[index], self.mean)

    def packed(self) -> PackedRows:
        rows = self.inner.packed()
        return self.scales[:, None] * (rows if self.mean is None else rows - svec(self.mean)[None, :])


def centred_measurements(
    measurements: Measurements, values: Values, used: Bool[Array, " n"], centre: bool = True
) -> tuple[Centred, Values]:
    """Map and values z of the loss over the ``used`` samples alone, minimised over a constant b if ``centre``.

    With m samples used, measurements B_i and values y_i, ``(1/n) sum_i (<A_i, X> - z_i)^2`` over all n is
    ``min_b (1/m) sum_used (<B_i, X> + b - y_i)^2``: the minimum subtracts means over the used samples from B and y,
    and ``s_i = sqrt(n / m)`` where used, else 0, turns 1/n into 1/m. Without ``centre`` b = 0. m may be traced;
    m = 0 gives NaN. Derived.
    """
    weights = used.astype(values.dtype)
    total = jnp.sum(weights)
    scales = weights * jnp.sqrt(values.shape[0] / total)
    if not centre:
        return Centred(measurements, scales), scales * values
    mean = measurements.adjoint(weights / total)
    return Centred(measurements, scales, mean), scales * (values - jnp.sum(weights * values) / total)
