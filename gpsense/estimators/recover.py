"""Recovery from a user's own measurements, rank and noise unknown: greedy pruning along a path of penalties.

First a few penalties are tried one by one, briefly: where one leaves a factor that explains the held-out measurements
to rounding there is no noise to weigh up, and no path is needed. Else the path is a grid of its own kind: one problem,
every penalty a cell, trained side by side by :mod:`gpsense.descent` in blocks. Between blocks each cell's step size
follows the curvature where it stands. All parameters come from the data; the rules are equivariant, so a change of
unit of y or of A changes nothing but the unit of the factor.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gpsense import pruning
from gpsense._linalg import eigh
from gpsense._types import Factor, Integer, Scalar, Values
from gpsense.descent import DIVERGED, RUNNING, Descent, Method, Rates, ValueAndGradient, advance_descent, start_descent
from gpsense.errors import BadInput
from gpsense.penalties import smoothed_group_lasso
from gpsense.sensing.fitting import fit, fit_many
from gpsense.sensing.losses import Empirical, Objective, cheapest_objective
from gpsense.sensing.measurements import Measurements

METHOD = Method("nesterov")
MOMENTUM = 0.95
STEPS = 50
PROBES = ((0.15, 30), (0.05, 100), (0.015, 300))  # target eigenvalue relative to the largest, training steps


class Path(NamedTuple):
    """The penalties that were tried, strongest first; arrays of shape (path,), column_norms (path, width)."""

    penalty: np.ndarray
    smoothing: np.ndarray
    rank: np.ndarray
    held_out_error: np.ndarray
    column_norms: np.ndarray
    steps: np.ndarray


class Recovery(NamedTuple):
    """What was recovered: factor (dim, rank), its rank, the noise level, and how it was chosen.

    ``noise`` is the root mean square residual on the held-out measurements (in units of y), ``chosen`` the index on
    the path, ``held_out`` the numbers of the held-out measurements.
    """

    factor: np.ndarray
    rank: int
    noise: float
    residual: float
    chosen: int
    held_out: np.ndarray
    path: Path


class _Split(NamedTuple):
    """Measurements to train on, and those held out."""

    train: Measurements
    values: jax.Array
    test: Measurements
    test_values: jax.Array

    def held_out(self, factor: Factor) -> float:
        """Root mean square residual on what was held out."""
        return _root_mean_square(_residuals(self.test, self.test_values, factor[None]))


class _Cell(eqx.Module):
    """One penalty's run: descent, the share of the safe step it takes, the direction of largest curvature."""

    descent: Descent
    caution: Scalar
    direction: Factor


def recover(
    measurements: Measurements,
    values: Values,
    *,
    seed: int = 0,
    width: int = 20,
    held_out: float = 0.2,
    penalties: int = 16,
    blocks: int = 12,
    tolerance: float | None = None,
) -> Recovery:
    """Find U (dim, rank) with ``A(U U^T) ~ y``, rank and noise unknown, by training, pruning and fine-tuning.

    A random ``held_out`` share of the measurements is put aside. On the rest, from a spectral start of ``width``
    columns (at most dim), every penalty of a path is trained; columns of norm at most ``2 sqrt(beta)`` go and the
    rest is fine-tuned. The smallest rank whose held-out error is within one standard error (paired) of the best is
    kept and fitted again to all measurements. With ``b`` the largest eigenvalue of ``A*(y)/n`` and ``mu`` that of an
    unpenalised fit, the path has target eigenvalues m mu, m from 2 to 1e-3 in the log: ``beta = m mu / 16``,
    ``tau = m b``, ``lambda = 2 sqrt(beta) tau`` (derived here from the thresholds of :mod:`gpsense.theory`; not the
    paper's). Without noise a probe of one penalty is enough, and is then the whole path.

    The last fit stops at about a relative accuracy of ``tolerance`` (None: working precision). Raises BadInput for
    values that are not finite, all zero, too few, or that no positive semidefinite matrix fits. Works in the dtype of
    the values. Deterministic for a seed, which draws the split and the start.
    """
    unit = _check(measurements, values)
    values = values / unit
    rng = np.random.default_rng(seed)
    share = min(max(1, round(held_out * measurements.n)), measurements.n - 1)
    order = rng.permutation(measurements.n)
    out, kept = np.sort(order[:share]), np.sort(order[share:])
    split = _split(measurements, values, jnp.asarray(kept), jnp.asarray(out))
    accuracy = float(3 * jnp.finfo(values.dtype).eps if tolerance is None else tolerance)
    weights = _like(rng.standard_normal(kept.size), values)
    draw = _like(rng.standard_normal((measurements.dim, min(width, measurements.dim))), values)
    largest, start = _spectral_start(split.train, split.values, weights, draw)
    top = float(largest)
    if not top > 0:
        remedy = "check the signs: y must come from a positive semidefinite U U^T"
        raise BadInput("y", "the back-projected measurements have no positive eigenvalue", remedy)
    path, tuned = _probe(split, top, start)
    if path is None:
        path, tuned = _train_path(split.train, split.values, top, start, penalties, blocks)
    residuals = np.asarray(_residuals(split.test, split.test_values, tuned))
    path = path._replace(held_out_error=np.sqrt((residuals**2).mean(1)))
    chosen = _choose(residuals, path.rank, np.asarray(split.test_values))
    rank = int(path.rank[chosen])
    factor = jnp.asarray(np.asarray(tuned)[chosen][:, :rank])
    factor = fit(measurements, values, factor, accuracy, rounds=4) if rank else factor
    misfit = values if not factor.shape[1] else _residuals(measurements, values, factor[None])
    root = float(np.sqrt(unit))
    return Recovery(
        factor=np.asarray(factor) * root,
        rank=factor.shape[1],
        noise=float(path.held_out_error[chosen]) * unit,
        residual=_root_mean_square(misfit) * unit,
        chosen=chosen,
        held_out=out,
        path=path._replace(
            penalty=path.penalty * unit**1.5,
            smoothing=path.smoothing * unit,
            held_out_error=path.held_out_error * unit,
            column_norms=path.column_norms * root,
        ),
    )


def _train_path(
    measurements: Measurements, values: Values, top: float, start: Factor, count: int, blocks: int
) -> tuple[Path, jax.Array]:
    """Train every penalty from the same start, prune, fine-tune: the path and the factors (path, dim, width)."""
    objective = jax.jit(cheapest_objective, static_argnums=2)(measurements, values, start.shape[1])
    starts = _like(np.broadcast_to(start, (count, *start.shape)), values)
    nothing, one = _like(np.zeros(count), values), _like(np.ones(count), values)
    free = _solve(objective, starts, nothing, one, top, 6, 0.0)
    largest = float(np.linalg.norm(np.asarray(free.descent.factor)[0], 2)) ** 2
    target = np.geomspace(2.0, 1e-3, count)
    smoothing = target * largest / 16
    penalty = 2 * np.sqrt(smoothing) * target * top
    trained = _solve(objective, starts, _like(penalty, values), _like(smoothing, values), top, blocks, 3e-6).descent
    norms = np.linalg.norm(trained.factor, axis=1)
    mask = norms > 2 * np.sqrt(smoothing)[:, None]
    ranks = mask.sum(1)
    narrow = _compact(trained.factor, jnp.asarray(mask), max(1, int(ranks.max())))
    tuned = fit_many(measurements, values, narrow, 1e-5, 30)
    return Path(penalty, smoothing, ranks, np.zeros(count), norms, np.asarray(trained.steps)), tuned


def _probe(split: _Split, top: float, start: Factor) -> tuple[Path | None, jax.Array]:
    """One penalty after another, briefly: the first whose factor explains the held-out values to rounding, or None.

    The step is safe for maps near isotropic only; where it is not, nothing is explained and the path decides.
    """
    exact = max(1e-6, 30 * float(jnp.finfo(start.dtype).eps))
    largest = float(np.max(np.sum(np.square(start), axis=0)))
    for target, steps in PROBES:
        smoothing = target * largest / 16
        penalty = 2 * np.sqrt(smoothing) * target * top
        numbers = _like(np.array([penalty, smoothing, 8 * top + 2 * penalty / np.sqrt(smoothing)]), start)
        trained = _brief(split.train, split.values, start, numbers, jnp.int32(steps))
        norms = np.linalg.norm(trained, axis=0)
        kept = np.flatnonzero(norms > 2 * np.sqrt(smoothing))
        if 0 < kept.size < start.shape[1] and np.isfinite(norms).all():
            tuned, error = _explain(split, _like(np.asarray(trained)[:, kept], trained), exact)
            if error <= 10 * exact:
                one = lambda number: np.array([number])  # noqa: E731
                rank = one(tuned.shape[1])
                return Path(one(penalty), one(smoothing), rank, one(error), norms[None], one(steps)), tuned[None]
    return None, start[None]


def _explain(split: _Split, factor: Factor, exact: float) -> tuple[Factor, float]:
    """A fit from this factor and its held-out error; cut at the widest gap of its spectrum if that explains y."""
    tuned = fit(split.train, split.values, factor, exact)
    left, sizes, _ = np.linalg.svd(np.asarray(tuned), full_matrices=False)
    steps = sizes[:-1] / np.maximum(sizes[1:], np.finfo(sizes.dtype).tiny)
    if steps.size and steps.max() > 3:
        fewer = fit(split.train, split.values, _like((left * sizes)[:, : int(np.argmax(steps)) + 1], tuned), exact)
        error = split.held_out(fewer)
        if error <= 10 * exact:
            return fewer, error
    return tuned, split.held_out(tuned)


@jax.jit
def _brief(
    measurements: Measurements, values: Values, start: Factor, numbers: Float[Array, "3"], steps: Integer
) -> Factor:
    """Training from the start for some steps: numbers are penalty, smoothing and the inverse of the step size."""
    penalty, smoothing, bound = numbers
    objective = Empirical(measurements, values)
    momentum = jnp.full_like(bound, 0.9)
    zero = jnp.zeros_like(bound)
    rates = Rates(1.0 / bound, momentum, zero, zero)
    penalised = partial(_penalised, objective, penalty, smoothing)
    ten = lambda _, state: advance_descent(METHOD, penalised, state, rates, 10)  # noqa: E731
    return jax.lax.fori_loop(0, steps // 10, ten, start_descent(METHOD, start, rates)).factor


def _check(measurements: Measurements, values: Values) -> float:
    """Refuse what cannot be recovered from; the root mean square of the values, which becomes the unit."""
    if values.shape != (measurements.n,):
        raise BadInput("y", f"shape {values.shape} for {measurements.n} measurements", "give one value each")
    if measurements.n < 5:
        raise BadInput("y", f"only {measurements.n} measurements", "give at least 5, some are held out")
    if not np.isfinite(values).all():
        raise BadInput("y", "holds NaN or infinity", "remove those measurements")
    unit = float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))
    if unit == 0:
        raise BadInput("y", "is all zero", "give measurements of a matrix that is not zero")
    return unit


def _like(numbers: np.ndarray, other: jax.Array) -> jax.Array:
    return jnp.asarray(numbers, other.dtype)


@jax.jit
def _split(measurements: Measurements, values: Values, kept: jax.Array, out: jax.Array) -> _Split:
    """The measurements to train on and those held out, by their numbers."""
    return _Split(measurements.take(kept), values[kept], measurements.take(out), values[out])


@jax.jit
def _spectral_start(measurements: Measurements, values: Values, weights: Values, draw: Factor) -> tuple[Scalar, Factor]:
    """Largest eigenvalue b of ``B = A*(y)/n``, and the leading eigenpairs of B, scaled to fit y, plus 5 % noise.

    The noise is a normal ``draw`` (dim, width) pushed through the A_i at random ``weights``, so that it has no part
    that they cannot see.
    """
    width = draw.shape[1]
    eigenvalues, vectors = eigh(measurements.adjoint(values / values.shape[0]))
    eigenvalues, vectors = jnp.maximum(eigenvalues[::-1][:width], 0.0), vectors[:, ::-1][:, :width]
    start = vectors * jnp.sqrt(eigenvalues)[None, :]
    predicted = measurements.forward(start)
    scale = jnp.maximum((predicted @ values) / jnp.maximum(predicted @ predicted, 1e-30), 1e-12)
    noise = measurements.adjoint(weights) @ draw
    noise = noise * jnp.sqrt(eigenvalues[0] * width / jnp.sum(noise**2))
    return eigenvalues[0], jnp.sqrt(scale) * (start + 0.05 * noise)


def _solve(
    objective: Objective,
    starts: jax.Array,
    penalty: jax.Array,
    smoothing: jax.Array,
    top: float,
    blocks: int,
    tolerance: float,
) -> _Cell:
    """Descend from every start (cells, dim, width) with its own penalty, block by block, until all have stopped."""
    cells = _begin_all(starts)
    floor = jnp.asarray(8 * top, starts.dtype)
    for _ in range(blocks):
        cells = _blocks(objective, cells, penalty, smoothing, floor, jnp.asarray(tolerance, starts.dtype))
        if not (np.asarray(cells.descent.status) == RUNNING).any():
            break
    return cells


def _begin(start: Factor) -> _Cell:
    zero = jnp.zeros((), start.dtype)
    direction = jnp.cos(2.3 * jnp.arange(start.size, dtype=start.dtype)).reshape(start.shape)
    return _Cell(start_descent(METHOD, start, Rates(zero, zero, zero, zero)), jnp.ones((), start.dtype), direction)


_begin_all = jax.jit(jax.vmap(_begin))


def _penalised(objective: Objective, penalty: Scalar, smoothing: Scalar, factor: Factor) -> tuple[Scalar, Factor]:
    """Loss plus penalty with its gradient."""
    loss, gradient = objective.value_and_gradient(factor)
    extra, slope = jax.value_and_grad(smoothed_group_lasso)(factor, smoothing)
    return loss + penalty * extra, gradient + penalty * slope


def _block(
    objective: Objective, cell: _Cell, penalty: Scalar, smoothing: Scalar, floor: Scalar, tolerance: Scalar
) -> _Cell:
    """Fifty steps at the safe rate; undone, with half the rate from then on, if the objective rose."""

    penalised = partial(_penalised, objective, penalty, smoothing)
    before = cell.descent
    curvature, direction = _curvature(objective.value_and_gradient, before.factor, cell.direction)
    bound = jnp.maximum(floor, 1.15 * curvature + 2 * penalty / jnp.sqrt(smoothing))
    size = jnp.sqrt(jnp.sum(before.factor**2))
    rates = Rates(
        cell.caution / bound, jnp.asarray(MOMENTUM, size.dtype), tolerance * bound * size, jnp.zeros_like(size)
    )
    after = advance_descent(METHOD, penalised, before, rates, STEPS)
    old, new = penalised(before.factor)[0], penalised(after.factor)[0]
    rose = (after.status == DIVERGED) | ~(new <= old + 1e-5 * (jnp.abs(old) + 1))
    fresh = start_descent(METHOD, before.factor, rates)
    descent = jax.tree.map(lambda retry, went: jnp.where(rose, retry, went), fresh, after)
    descent = eqx.tree_at(lambda d: d.steps, descent, after.steps)
    return _Cell(descent, jnp.where(rose, cell.caution / 2, cell.caution), direction)


_blocks = jax.jit(jax.vmap(_block, in_axes=(None, 0, 0, 0, None, None)))


def _curvature(value_and_gradient: ValueAndGradient, factor: Factor, direction: Factor) -> tuple[Scalar, Factor]:
    """Largest absolute eigenvalue of the Hessian, by twelve power iterations on Hessian-vector products."""

    def iterate(_: Integer | int, state: tuple[Factor, Scalar]) -> tuple[Factor, Scalar]:
        direction = state[0]
        product = jax.jvp(lambda u: value_and_gradient(u)[1], (factor,), (direction,))[1]
        norm = jnp.sqrt(jnp.sum(product**2))
        return product / jnp.where(norm > 0, norm, 1.0), norm

    mixed = direction + 1e-3 * jnp.roll(direction, 1, 0)
    direction, norm = jax.lax.fori_loop(0, 12, iterate, (mixed, jnp.zeros((), factor.dtype)))
    return norm, direction


@partial(jax.jit, static_argnums=2)
def _compact(factors: jax.Array, masks: jax.Array, width: int) -> jax.Array:
    return jax.vmap(lambda factor, mask: pruning.compact(factor, mask, width))(factors, masks)


@jax.jit
def _residuals(measurements: Measurements, values: Values, factors: jax.Array) -> jax.Array:
    """``A(U U^T) - y`` for every factor (cells, dim, width); shape (cells, n)."""
    return jax.vmap(lambda factor: measurements.forward(factor) - values)(factors)


def _root_mean_square(numbers: jax.Array) -> float:
    return float(np.sqrt(np.mean(np.square(numbers))))


def _choose(residuals: np.ndarray, ranks: np.ndarray, values: np.ndarray) -> int:
    """The smallest rank within one paired standard error of the best held-out error; ties by that error."""
    squares = residuals**2
    errors = squares.mean(1)
    excess = squares - squares[np.argmin(errors)]
    slack = excess.std(1) / np.sqrt(values.size) + 1e-8 * np.mean(values**2)
    good = np.flatnonzero(excess.mean(1) <= slack)
    smallest = good[ranks[good] == ranks[good].min()]
    return int(smallest[np.argmin(errors[smallest])])
