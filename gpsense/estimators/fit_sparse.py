"""Sparse regression on a user's own table: the few columns that matter are found, and a network is fitted to them.

:func:`fit_sparse` runs Algorithms 1 and 2 of arXiv 2406.08658 on standardised columns; their one unknown, the pool M,
is chosen by data. A share of the rows, the test rows, is held out before anything is computed, and the risk is measured
on it at the end. Every fifth of the other rows is a validation row (:data:`gpsense.sparse.samples.HELD`); validation
rows choose M, the ridge penalty and the columns.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float
from scipy.special import ndtri

from gpsense._devices import start_devices
from gpsense._types import Integer, RandomKey, Scalar
from gpsense.descent import Method, Rates, Target, advance_descent, start_descent
from gpsense.errors import BadInput
from gpsense.fields import WHOLE, Field, arguments_named, check_flag, real_array, shown
from gpsense.grid.estimate import held_bytes
from gpsense.grid.plan import size_text
from gpsense.grid.run import MEMORY, verify_run
from gpsense.pipeline import MOST_STEPS
from gpsense.pruning import inputs
from gpsense.sparse import learner, samples
from gpsense.sparse import network as nets
from gpsense.sparse.hermite import RELU
from gpsense.sparse.learner import Recipe
from gpsense.sparse.network import Network
from gpsense.sparse.samples import ALL, FIT, HELD, TableSamples

POOLS = (1, 2, 3, 5, 8, 12, 20)
FEWEST, TRAINED = 30, 20  # least number of rows, and of rows to train on
STRENGTH = 0.9  # share of the first layer's squared singular values in the directions returned
ADAM, RATE = Method("adam"), 1e-3  # for fine-tuning
SEED = Field(name="seed", kind=WHOLE, at_least=0)
MOST = 10**9  # largest count: twice as many still have 32-bit indices
COUNTS = {
    **{name: Field(name=name, kind=WHOLE, at_least=1, at_most=MOST) for name in ("biases", "neurons")},
    **{name: Field(name=name, kind=WHOLE, at_least=1, at_most=MOST, optional=True) for name in ("pool", "rank")},
    "fine_tune_steps": Field(name="fine_tune_steps", kind=WHOLE, at_least=0, at_most=MOST_STEPS),
}
ROUNDING = 1e-6  # share of the variance of y: a smaller rise of the error is ignored as rounding
SURE = 28.0  # risks per validation row: a column that lowers the risk by as much is kept with probability 0.95
CHANCE, ROUNDS = 0.01, 3  # of trying a column again where none matters; times that columns are tried again
FOLDS, LASSO_STEPS = 5, 10_000  # for the Lasso's cross-validation


class SparseFit(NamedTuple):
    """A fitted network, the columns that it reads, and how well it predicts the held-out test rows.

    ``coordinates`` (kept,): the columns kept, counted from 0; the first is the one without which the error on the
    validation rows rises most. ``scores`` (dim,): each column's score divided by the median over the columns; where
    ``parity`` gives several scores (even, odd, linear), the largest of these ratios. Scores select the candidate
    columns; candidates are ordered and, unless ``pool`` was given, dropped by what each adds to the prediction of
    validation rows. ``directions`` (dim, rank): the leading left singular vectors of the network's first layer, 0 at
    dropped columns; ``strengths`` (rank,): the share of each in the sum of squared singular values. ``linear`` (dim,):
    coefficients of the linear part beside the hidden layer. All of these refer to standardised columns: x is
    standardised as ``(x - centre) / scale``, y as ``(y - offset) / unit``. ``pool``: how many columns each kind of
    score contributed (M in the paper); ``ridge``: the ridge penalty; ``held_out``: indices of the test rows; ``names``:
    the column names where x was a DataFrame. Risks are mean squared errors on the test rows divided by the variance of
    y there; a constant has risk 1. ``held_out_risk`` is the risk of this fit, and ``beats_constant`` says whether it is
    below 1 by more than two standard errors of the difference, paired by rows. ``unpruned_risk`` is the risk of the
    same network on all columns, ``lasso_risk`` that of the Lasso, which keeps ``lasso_kept`` columns; these three are
    None unless compared. ``resolution`` is ``28 risk / n``, with the risk on the n validation rows: a column whose
    removal raises the risk by this much is kept with probability 0.95 or more. Derived: a rise d has a standard error
    of about ``2 sqrt(d risk / n)``, and the column is kept if the rise measured exceeds it; 28 is ``4 (1 + 1.645)^2``.
    Holds for columns that the scores or the residual show, not for those that act by products alone. None where
    ``pool`` was given, as its columns all stay.
    """

    coordinates: np.ndarray
    scores: np.ndarray
    directions: np.ndarray
    strengths: np.ndarray
    linear: np.ndarray
    pool: int
    ridge: float
    held_out: np.ndarray
    held_out_risk: float
    beats_constant: bool
    unpruned_risk: float | None
    lasso_risk: float | None
    lasso_kept: int | None
    network: Network
    centre: np.ndarray
    scale: np.ndarray
    offset: float
    unit: float
    resolution: float | None = None
    names: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        """The columns kept and the risks, in a few lines."""
        kept = [str(i if self.names is None else self.names[i]) for i in self.coordinates]
        which = ", ".join(kept[:12]) + (f" and {len(kept) - 12} more" if len(kept) > 12 else "")
        risks = {"this fit": self.held_out_risk, "all columns": self.unpruned_risk, "Lasso": self.lasso_risk}
        told = ", ".join(f"{name} {risk:.3g}" for name, risk in risks.items() if risk is not None)
        lasso = "" if self.lasso_kept is None else f" ({self.lasso_kept} columns)"
        lasso += "" if self.beats_constant else "; this fit is no better than a constant"
        lines = [
            f"SparseFit: keeps {len(kept)} of {len(self.centre)} columns, most useful first: {which}",
            f"mean squared error / variance of y, on {len(self.held_out)} held-out rows: {told}{lasso}",
        ]
        if self.resolution is not None:
            lines.append(f"columns that each lower this error by less than about {self.resolution:.2g} may be missing")
        return "\n  ".join((*lines, "see .coordinates, .kept_names, .scores, .directions, .predict(x)"))

    @property
    def kept_names(self) -> list[Any] | None:
        """Names of the columns kept, in the order of ``coordinates``, for ``x[fit.kept_names]``; None without names."""
        return None if self.names is None else [self.names[i] for i in self.coordinates]

    @arguments_named
    def predict(self, x: Any) -> np.ndarray:
        """Predictions (n,) for rows x (n, dim), in units of y. Raises BadInput for other shapes and missing numbers.

        If the fit was made from a DataFrame, columns of a DataFrame are found by name, in any order; only those in
        ``kept_names`` are needed, and the others are ignored.
        """
        kept = self.coordinates
        if self.kept_names is not None and hasattr(x, "columns"):
            given, names = dict(zip(map(str, x.columns), x.columns, strict=True)), [*map(str, self.kept_names)]
            if missing := [name for name in names if name not in given]:
                remedy = "give a table with all columns in fit.kept_names"
                raise BadInput("x", f"there is no column {missing[0]!r}", remedy)
            table = x[[given[name] for name in names]]
            rows = _numbers("x", table).astype(np.float64)
            _finite("x", rows, table)
        else:
            rows = _numbers("x", x).astype(np.float64)
            if rows.ndim != 2 or rows.shape[1] != len(self.centre):
                raise BadInput(
                    "x", f"shape {rows.shape}", f"give rows with all {len(self.centre)} columns of the fitted table"
                )
            _finite("x", np.where(np.isin(np.arange(rows.shape[1]), kept), rows, 0.0), x)
            rows = rows[:, kept]
        columns = ((rows - self.centre[kept]) / self.scale[kept]).astype(self.linear.dtype)
        return self.offset + self.unit * _evaluated(self.network, columns)


@dataclass(frozen=True)
class _Plan:
    """The options that, together with the shapes, determine the compiled programs: static under ``jit``."""

    pools: tuple[int, ...]
    recipe: Recipe
    parity: str
    biases: int
    fine_tune_steps: int
    compare: bool
    determined: bool  # at most half as many columns as rows fitted to

    def width(self, dim: int) -> int:
        """The most columns that any of the pools may keep."""
        return min(dim, inputs.PARITIES[self.parity].pools * max(self.pools))

    @property
    def unpruned(self) -> Recipe:
        """The recipe of the network on all columns: residual none where they are too many for least squares."""
        return self.recipe if self.determined else replace(self.recipe, residual="none")


class _Tried(NamedTuple):
    """One network for each ridge penalty, fitted to part of the rows, and their mean squared validation errors."""

    networks: Network
    errors: Float[Array, " ridges"]


class _Choice(NamedTuple):
    """A mask of columns, the index of their best ridge penalty, and the squared error of each validation row."""

    mask: np.ndarray
    ridge: int
    squares: np.ndarray

    @property
    def error(self) -> float:
        """The mean of ``squares``; infinite where one of them is not finite."""
        mean = float(self.squares.mean())
        return mean if np.isfinite(mean) else np.inf


@dataclass(frozen=True)
class _Trials:
    """Algorithm 2 on at most ``width`` columns of a table; ``held``: the validation rows and their values."""

    recipe: Recipe
    width: int
    stream: TableSamples
    key: RandomKey
    held: tuple[np.ndarray, np.ndarray]

    def choice(self, mask: np.ndarray) -> _Choice:
        """The ridge penalty of least validation error for the columns in ``mask``.

        Networks are fitted to the training rows that are not validation rows.
        """
        tried = jax.tree.map(np.asarray, self._tried(mask, FIT))
        ridge = int(np.argmin(np.where(np.isfinite(tried.errors), tried.errors, np.inf)))
        network, (rows, values) = jax.tree.map(lambda leaf: leaf[ridge], tried.networks), self.held
        return _Choice(mask, ridge, (_predicted(network, mask, rows) - values) ** 2)

    def network(self, choice: _Choice) -> Network:
        """The network with the columns and ridge of this choice, fitted to all rows of the stream."""
        return jax.tree.map(lambda leaf: leaf[choice.ridge], self._tried(choice.mask, ALL).networks)

    def _tried(self, mask: np.ndarray, part: int) -> _Tried:
        return _tried(self.recipe, self.width, self.stream, self.key, mask, np.int32(part))


@arguments_named
def fit_sparse(
    x: Any,
    y: ArrayLike,
    *,
    pool: int | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    parity: str = "both",
    contraction: float = 0.5,
    biases: int = 8,
    neurons: int = 128,
    residual: str = "ols",
    rank: int | None = None,
    fine_tune_steps: int = 0,
    compare: bool = True,
    memory: float = MEMORY,
) -> SparseFit:
    """Find the columns of x (n, dim) that y (n,) depends on (Algorithm 1) and fit a network to them (Algorithm 2).

    The algorithms are those of arXiv 2406.08658. Columns and y are standardised, and columns are pruned by scores. A
    network of ``neurons`` mirrored pairs of neurons takes one gradient step on y minus its linear part (``residual``);
    its output weights are fitted by ridge regression. The same seed gives the same fit. Computes in float64 where
    ``jax_enable_x64`` is set and x is float64 or whole numbers, else in float32. The choice of the pool and of the
    columns kept from it, the residual (ols, as real tables have linear parts) and the comparison are derived here, not
    the paper's.

    - ``x``: an array of numbers, or a DataFrame, whose column names are kept.
    - ``pool``: M, how many columns each kind of score (see ``parity``) contributes. None: M is chosen on validation
      rows, a fifth of the rows not held out, by networks fitted to the other four fifths. It is the number in
      :data:`POOLS` with the least error at its best ridge penalty in :data:`gpsense.sparse.network.RIDGES`. An M is
      tried only if the columns it can keep are at most half as many as the rows fitted to. Columns are then dropped,
      the least useful first, down to the fewest whose error is within one standard error of the least error found.
      Columns left out return if they correlate with the residual beyond chance and lower the error. The network on
      these columns is refitted to all rows not held out.
    - ``held_out``: the share of rows, drawn by ``seed``, that are held out as test rows, only to measure the risk.
    - ``parity``: which kinds of scores are used; both means even, odd and linear (:mod:`gpsense.pruning.inputs`, where
      also c, the ``contraction``, is defined). ``biases``: the number of biases over which scores are summed.
    - ``residual``: which linear part is subtracted from y before the step; none, mean (``(1/n) sum y x``), or ols (the
      least-squares fit on the columns kept).
    - ``rank``: how many directions (singular vectors of the first layer, see :class:`SparseFit`) are returned, at most
      one per column kept. None: as many as hold at least 0.9 of the sum of squared singular values.
    - ``fine_tune_steps``: steps of Adam afterwards, on all parameters of the network.
    - ``compare``: whether also to fit, to the same rows, :func:`cross_validated_lasso` and the same network on all
      columns, its ridge penalty chosen in the same way (with residual none if there are more than half as many columns
      as rows fitted to).
    - ``memory``: bytes that the fit may take, estimated before anything is compiled.

    Raises BadInput for values that are not finite, shapes that do not match, fewer than 30 rows, columns that are
    constant on the rows not held out, invalid options, and sizes that do not fit ``memory``.

    >>> x = np.random.default_rng(0).normal(size=(400, 10))
    >>> y = x[:, 3] ** 2 - 1
    >>> fit = gpsense.fit_sparse(x, y, pool=1, biases=1, neurons=16, compare=False)
    >>> 3 in fit.coordinates
    True
    """
    verify_run(memory, None)
    start_devices()
    check_flag("compare", compare)
    seed = SEED.check(seed)
    rows, outputs, dtype = _checked(x, y)
    order = np.random.default_rng(seed).permutation(len(rows))
    aside = _aside(held_out, outputs, order)
    out, rest = np.sort(order[:aside]), order[aside:]
    options = {"parity": parity, "contraction": contraction, "biases": biases, "neurons": neurons}
    options |= {"residual": residual, "fine_tune_steps": fine_tune_steps, "compare": compare}
    plan = _plan(len(rest) - len(rest) // 5, rows.shape[1], pool, rank, **options)
    centre, scale = _standards("x", rows[rest], x)
    (offset,), (unit,) = _standards("y", outputs[rest, None], y)
    columns, values = ((rows - centre) / scale).astype(dtype), ((outputs - offset) / unit).astype(dtype)
    stream_key, bias_key, fit_key = jax.random.split(jax.random.key(seed), 3)
    table = columns[rest], values[rest], stream_key
    _verify_memory(plan, memory, jax.eval_shape(samples.table, *table), fit_key)
    stream, held = jax.jit(samples.table)(*table), rest[samples.held_out(np.arange(len(rest)))]
    drawn = jax.random.normal(bias_key, (plan.biases,), dtype)
    scores, masks = (np.asarray(each) for each in _chosen(plan, stream, drawn, jnp.asarray(contraction, dtype)))
    trials = _Trials(plan.recipe, plan.width(stream.dim), stream, fit_key, (columns[held], values[held]))
    place = min(range(len(masks)), key=lambda each: trials.choice(masks[each]).error)
    choice, coordinates = _pruned(trials.choice, masks[place], every=pool is not None)
    if pool is None:
        choice, coordinates = _readmitted(trials, choice, coordinates, columns[rest], values[rest])
    network = trials.network(choice)
    if fine_tune_steps:
        network = _fine_tuned(stream, choice.mask, network, plan.fine_tune_steps)
    order = np.searchsorted(np.flatnonzero(choice.mask), coordinates)
    network = jax.tree.map(np.asarray, network)
    network = eqx.tree_at(lambda net: (net.weights, net.linear), network, replace_fn=lambda leaf: leaf[order])
    unpruned = None
    if compare:
        dense = replace(trials, recipe=plan.unpruned, width=stream.dim)
        unpruned = jax.tree.map(np.asarray, dense.network(dense.choice(np.ones(stream.dim, bool))))
    directions, strengths = _leading(network.weights, rank)
    lasso = cross_validated_lasso(columns[rest], values[rest]) if compare else None
    predicted = _evaluated(network, columns[out][:, coordinates])
    risk = lambda predicted: float(np.mean((predicted - values[out]) ** 2) / np.var(values[out]))  # noqa: E731
    return SparseFit(
        coordinates=coordinates,
        scores=scores[place],
        directions=_spread(directions, coordinates, rows.shape[1]),
        strengths=strengths,
        linear=_spread(network.linear, coordinates, rows.shape[1]),
        pool=plan.pools[place],
        ridge=nets.RIDGES[choice.ridge],
        held_out=out,
        held_out_risk=risk(predicted),
        beats_constant=_beats_constant(predicted, values[out]),
        unpruned_risk=None if unpruned is None else risk(_evaluated(unpruned, columns[out])),
        lasso_risk=None if lasso is None else risk(lasso.predict(columns[out])),
        lasso_kept=None if lasso is None else int(np.count_nonzero(lasso.coef_)),
        network=network,
        centre=centre,
        scale=scale,
        offset=float(offset),
        unit=float(unit),
        resolution=None if pool is not None else SURE * choice.error / float(np.var(values[held])) / len(held),
        names=tuple(x.columns) if hasattr(x, "columns") else None,
    )


def cross_validated_lasso(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, " n"]) -> Any:
    """The Lasso with the penalty of least five-fold cross-validation error, fitted to all rows: scikit-learn's LassoCV.

    In float64: in float32 its coordinate descent does not reach its own tolerance.
    """
    from sklearn.linear_model import LassoCV

    return LassoCV(cv=FOLDS, max_iter=LASSO_STEPS).fit(x.astype(np.float64), y.astype(np.float64))


def _pruned(tried: Callable[[np.ndarray], _Choice], mask: np.ndarray, *, every: bool) -> tuple[_Choice, np.ndarray]:
    """The choice for the columns kept from a mask, and these columns, first the one that adds most.

    What a column adds is the rise of the validation error without it. Columns that add least are dropped first; the
    fewest stay whose error is within one standard error, paired by rows, of the least found. ``every``: all stay.
    """
    columns = np.flatnonzero(mask)
    without = [tried(mask & (np.arange(mask.size) != column)).error for column in columns]
    order = columns[np.argsort(-np.array(without), kind="stable")]
    if every or order.size == 1:
        return tried(mask), order
    choices = [tried(np.isin(np.arange(mask.size), order[:count])) for count in range(1, order.size + 1)]
    best = min(choices, key=lambda each: each.error)
    choice = next(each for each in choices if each is best or _as_good(each, best))
    return choice, order[: choice.mask.sum()]


def _readmitted(
    trials: _Trials, choice: _Choice, coordinates: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> tuple[_Choice, np.ndarray]:
    """The choice, and its columns in order, after trying again left-out columns that correlate with its residual.

    The scores rank weak columns by chance. A column is tried again if it, or its square, correlates with the residual
    by more than chance allows for any of the columns (level CHANCE); it stays if the validation error falls.
    """
    for _ in range(ROUNDS):
        missed = _missed(trials.network(choice), choice.mask, columns, values)[: trials.width - choice.mask.sum()]
        if not missed.size:
            break
        wider, order = _pruned(trials.choice, choice.mask | np.isin(np.arange(choice.mask.size), missed), every=True)
        if not wider.error < choice.error:
            break
        choice, coordinates = wider, order
    return choice, coordinates


def _missed(network: Network, mask: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The columns left out whose correlation with the residual is beyond chance, the largest first."""
    network = jax.tree.map(np.asarray, network)
    left = np.asarray(values - _predicted(network, mask, columns), np.float64)
    left -= left.mean()
    if not np.isfinite(left).all() or not left.any():
        return np.zeros(0, int)
    size = np.zeros(mask.size)
    for power in (columns, columns**2):
        centred = power - power.mean(axis=0, dtype=np.float64)
        norms = np.linalg.norm(centred, axis=0) * np.linalg.norm(left)
        size = np.maximum(size, np.abs(left @ centred) / np.maximum(norms, np.finfo(np.float64).tiny))
    size[mask] = 0.0
    bound = ndtri(1 - CHANCE / (4 * mask.size)) / np.sqrt(len(left))
    order = np.argsort(-size, kind="stable")
    return order[size[order] > bound]


def _as_good(choice: _Choice, best: _Choice) -> bool:
    """Whether the errors of a choice exceed those of the best by at most one standard error of the difference."""
    excess = choice.squares - best.squares
    return bool(excess.mean() <= excess.std(ddof=1) / np.sqrt(excess.size) + ROUNDING)


@partial(jax.jit, static_argnums=0)
def _chosen(
    plan: _Plan, stream: TableSamples, biases: Float[Array, " biases"], contraction: Scalar
) -> tuple[Float[Array, "pools dim"], Bool[Array, "pools dim"]]:
    """For each pool, the ``scores`` of :class:`SparseFit` and the mask of :func:`gpsense.pruning.inputs.chosen`.

    Validation rows are not used. Biases are taken one after another, so that memory holds no more than two dim x dim
    matrices for each kind of score.
    """
    stream = stream.seen_as(FIT)

    def squares(bias: Scalar) -> tuple[Array, Array]:
        found, linear = inputs.gradients(stream, bias[None], contraction, RELU, plan.parity)
        largest, _ = jax.lax.top_k(jnp.abs(found[0]), max(plan.pools))
        return jnp.cumsum(largest**2, axis=-1)[..., jnp.asarray(plan.pools) - 1], jnp.abs(linear)

    summed, linear = jax.lax.map(squares, biases)
    rows = jnp.sqrt(jnp.moveaxis(jnp.sum(summed, axis=0), -1, 0))
    if inputs.PARITIES[plan.parity].linear:
        rows = jnp.concatenate([rows, jnp.broadcast_to(linear[0], (len(plan.pools), 1, stream.dim))], axis=1)
    ratios = rows / jnp.maximum(jnp.median(rows, axis=-1, keepdims=True), jnp.finfo(rows.dtype).tiny)
    places = jnp.argsort(jnp.argsort(-rows, axis=-1, stable=True), axis=-1)
    masks = jnp.any(places < jnp.asarray(plan.pools)[:, None, None], axis=1)
    return jnp.max(ratios, axis=1), masks


@partial(jax.jit, static_argnums=(0, 1))
def _tried(
    recipe: Recipe, width: int, stream: TableSamples, key: RandomKey, mask: Bool[Array, " dim"], part: Integer
) -> _Tried:
    """The networks of Algorithm 2 fitted to a part of the rows, one for each ridge penalty."""
    seen, kept = stream.seen_as(part), nets.kept_coordinates(mask, width)
    layer, _ = learner.first_layer(seen, kept, recipe, key)
    found = nets.statistics(seen, kept, layer, recipe.activation)
    path = nets.ridge(found, layer, jnp.asarray(nets.RIDGES, stream.dtype))
    return _Tried(path, nets.squared_errors(stream.seen_as(HELD), kept, path, recipe.activation)[0])


@partial(jax.jit, static_argnums=3)
def _fine_tuned(stream: TableSamples, mask: Bool[Array, " dim"], network: Network, steps: int) -> Network:
    """The network after ``steps`` of Adam on all its parameters and all rows of the stream."""
    kept, zero = nets.kept_coordinates(mask, len(network.linear)), jnp.zeros((), stream.dtype)
    rates = Rates(jnp.asarray(RATE, stream.dtype), zero, zero, zero)
    target = Target(lambda net: learner.loss(stream, kept, RELU, net))
    return advance_descent(ADAM, target, start_descent(ADAM, network, rates), rates, steps).factor


def _predicted(network: Network, mask: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Predictions for rows of all columns; the network reads the columns in ``mask``, padded by zeros to its width."""
    columns = np.zeros((len(rows), len(network.linear)), rows.dtype)
    columns[:, : mask.sum()] = rows[:, mask]
    return _evaluated(network, columns)


def _evaluated(network: Network, columns: np.ndarray) -> np.ndarray:
    """Predictions, computed by NumPy, for rows that hold the network's columns alone."""
    hidden = np.maximum(columns @ network.weights + network.biases, 0)
    return hidden @ network.output + columns @ network.linear + network.intercept


def _beats_constant(predicted: np.ndarray, values: np.ndarray) -> bool:
    """Whether predictions beat the mean of the values by more than two standard errors of the difference."""
    gain = (values - values.mean()) ** 2 - (predicted - values) ** 2
    return bool(gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(gain.size))


def _spread(rows: np.ndarray, coordinates: np.ndarray, dim: int) -> np.ndarray:
    """An array of ``dim`` rows: the given rows at ``coordinates``, 0 elsewhere."""
    whole = np.zeros((dim, *rows.shape[1:]), rows.dtype)
    whole[coordinates] = rows
    return whole


def _leading(first: np.ndarray, rank: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The ``rank`` leading left singular vectors and their shares of the squares; None: enough for 0.9 of the sum."""
    left, sizes, _ = np.linalg.svd(first, full_matrices=False)
    shares = sizes**2 / np.sum(sizes**2)
    count = int(np.searchsorted(np.cumsum(shares), STRENGTH)) + 1 if rank is None else rank
    return left[:, :count], shares[:count]


def _numbers(name: str, given: Any) -> np.ndarray:
    """An array, or the columns of a DataFrame side by side; BadInput where they are not real numbers."""
    if np.ma.is_masked(given):
        problem = f"{np.ma.count_masked(given)} of {np.size(given)} values are masked"
        raise BadInput(name, problem, "remove or fill in those rows")
    if not hasattr(given, "columns"):
        return real_array(name, given)
    names = list(given.columns)
    if len(set(map(str, names))) < len(names):
        raise BadInput(name, "two columns have the same name", "rename one of them")
    columns = []
    for each in names:
        try:
            columns.append(real_array(name, given[each]))
        except BadInput:
            if _are_numbers(given[each]):
                remedy = f"convert them, {name}[{each!r}].astype(float)"
                raise BadInput(name, f"column {str(each)!r} holds numbers as text", remedy) from None
            remedy = "encode it, for example by pandas.get_dummies(x, dtype=float)"
            raise BadInput(name, f"column {str(each)!r} does not hold numbers", remedy) from None
    return np.stack(columns, axis=1) if columns else np.zeros((len(given), 0))


def _are_numbers(column: Any) -> bool:
    """Whether every value of a column is a finite number, or text that spells one."""
    try:
        return bool(np.isfinite(np.asarray(column, dtype=object).astype(float)).all())
    except (TypeError, ValueError):
        return False


def _column(place: int, table: Any) -> str:
    """A column as named in messages: its name where the table has names, else its number from 0."""
    names = getattr(table, "columns", None)
    return f"{place} (from 0)" if names is None else repr(str(names[place]))


def _finite(name: str, array: np.ndarray, table: Any) -> None:
    """Raises BadInput where numbers are missing or infinite, and says where."""
    lost = ~np.isfinite(array)
    if not lost.any():
        return
    rows = np.flatnonzero(lost.reshape(len(lost), -1).any(axis=1))
    places = f"row {rows[0]}" if len(rows) == 1 else f"first in row {rows[0]}, last in row {rows[-1]}"
    where = ""
    if array.ndim == 2:
        columns = np.flatnonzero(lost.any(axis=0))
        first = _column(columns[0], table)
        where = f" in column {first}" if len(columns) == 1 else f" in {len(columns)} columns, the first {first}"
    problem = f"{int(lost.sum())} missing or infinite values{where} ({places})"
    raise BadInput(name, problem, "fill them in or remove those rows")


def _checked(x: Any, y: ArrayLike) -> tuple[np.ndarray, np.ndarray, Any]:
    """x and y in float64, and the type to compute in; BadInput where they do not form a regression table."""
    _verify_values(x, y)
    rows, values = _numbers("x", x), _numbers("y", y)
    if rows.ndim == 1 and values.ndim == 2:
        problem = f"it has shape {rows.shape} and y {values.shape}, as if the two were swapped"
        raise BadInput("x", problem, "give the table first, fit_sparse(x, y)")
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise BadInput("x", f"shape {rows.shape}", "give an array (n, dim) of at least two columns")
    if values.shape != rows.shape[:1]:
        first = "y.iloc[:, 0]" if hasattr(y, "iloc") else "y[:, 0]"
        remedy = "give one value per row" + (f", such as {first}" if values.ndim == 2 else "")
        remedy = "give x.T, with one row per value of y" if values.shape == rows.shape[1:] else remedy
        raise BadInput("y", f"shape {values.shape} for {rows.shape[0]} rows", remedy)
    _verify_order(x, y)
    if len(rows) < FEWEST:
        raise BadInput("x", f"only {len(rows)} rows", f"give at least {FEWEST}")
    for name, array in (("x", rows), ("y", values)):
        _finite(name, array, x)
    dtype = np.promote_types(rows.dtype, np.float32) if rows.dtype.kind == "f" else np.dtype(np.float64)
    return rows.astype(np.float64), values.astype(np.float64), jax.dtypes.canonicalize_dtype(dtype)


def _verify_values(x: Any, y: Any) -> None:
    """Raises BadInput where y is the name of a column instead of its values."""
    names = y if isinstance(y, list | tuple) and len(y) == 1 else [y]
    if isinstance(names[0], str):
        name, values = names[0], "give the values of y, one per row"
        if not hasattr(x, "columns"):
            raise BadInput("y", f"{shown(name)} is a name, not the values", values)
        if name not in x.columns:
            raise BadInput("y", f"{shown(name)} is text, but not a column of x", values)
        remedy = f"give y=x[{name!r}] and x.drop(columns={name!r}) for x"
        raise BadInput("y", f"{shown(name)} is a name, not the values", remedy)


def _verify_order(x: Any, y: Any) -> None:
    """Raises BadInput where the row labels (pandas) of x and y differ; labels 0, 1, ... in order count as none."""
    one: Any = getattr(x, "index", None)
    other: Any = getattr(y, "index", None)
    if not (hasattr(one, "equals") and hasattr(other, "equals")) or one.equals(other):
        return
    ours, theirs = list(one), list(other)
    same = set(ours) == set(theirs)
    if not same and list(range(len(ours))) in (ours, theirs):
        return
    place = next((place for place, label in enumerate(ours) if label != theirs[place]), 0)
    problem = "its row labels are not in the order of x" if same else "its row labels are not those of x"
    told = f"row {place}, counted from 0, is {shown(ours[place])} in x and {shown(theirs[place])} in y"
    remedy = "give y.loc[x.index] to pair rows by label, or" if same else "give"
    raise BadInput("y", f"{problem} ({told})", f"{remedy} y.to_numpy() to pair rows by position")


def _aside(held_out: float, values: np.ndarray, order: np.ndarray) -> int:
    """The number of test rows; BadInput unless there are enough of them and enough rows to train on."""
    n = len(values)
    if not (isinstance(held_out, Real) and 0 < held_out < 1):
        raise BadInput("held_out", f"{held_out!r} is not a share", "give a number above 0 and below 1")
    count = round(held_out * n)
    if not 2 <= count <= n - TRAINED:
        remedy = f"give a share that leaves {TRAINED} or more rows to train on and 2 or more held out"
        raise BadInput("held_out", f"{held_out} holds out {count} of {n} rows", remedy)
    for rows, where in ((order[:count], "held out"), (order[count:], "trained on")):
        if not np.ptp(values[rows]) > 0:
            raise BadInput("y", f"is constant on the rows {where}", "give outputs that vary, or another seed")
    return count


def _standards(name: str, columns: np.ndarray, table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column; BadInput where one is constant or they are not finite."""
    constant = np.flatnonzero(np.ptp(columns, axis=0) == 0)
    if constant.size:
        listed = ", ".join(_column(each, table) for each in constant[:5]) + " and more" * (constant.size > 5)
        words, it = (f"column {listed} does", "it") if constant.size == 1 else (f"columns {listed} do", "them")
        raise BadInput(name, f"{words} not vary on the rows trained on", f"leave {it} out")
    with np.errstate(over="ignore", invalid="ignore"):
        centre, scale = columns.mean(axis=0), columns.std(axis=0)
    lost = np.flatnonzero(~(np.isfinite(centre) & np.isfinite(scale) & (scale > 0)))
    if lost.size:
        where = f"numbers in column {_column(lost[0], table)}" if name == "x" else "numbers"
        problem = f"{where} are so large, or differ by so little, that their squared deviations overflow or underflow"
        raise BadInput(name, problem, "change the units")
    return centre, scale


def _plan(seen: int, dim: int, pool: int | None, rank: int | None, **options: Any) -> _Plan:
    """The checked options; ``seen``: how many rows networks are fitted to while validation rows choose."""
    known = {"parity": tuple(inputs.PARITIES), "residual": tuple(nets.RESIDUALS)}
    for name, names in known.items():
        if options[name] not in names:
            raise BadInput(name, f"{options[name]!r} is unknown", f"use one of {', '.join(names)}")
    options |= {name: COUNTS[name].check(options[name]) for name in ("biases", "neurons", "fine_tune_steps")}
    pool, rank = COUNTS["pool"].check(pool), COUNTS["rank"].check(rank)
    if not (isinstance(options["contraction"], Real) and 0 < float(options["contraction"]) <= 1):
        raise BadInput(
            "contraction", f"{options['contraction']!r} is not allowed", "give a number above 0 and at most 1"
        )
    if rank is not None and rank > min(dim, 2 * options["neurons"]):
        raise BadInput("rank", f"{rank} directions are too many", f"give 1 to {min(dim, 2 * options['neurons'])}")
    kept = lambda count: min(dim, inputs.PARITIES[options["parity"]].pools * count)  # noqa: E731
    if pool is not None and pool > dim:
        raise BadInput("pool", f"{pool} is more than the {dim} columns", f"give 1 to {dim}")
    if pool is not None and options["residual"] == "ols" and kept(pool) >= seen:
        fitted = f"the {seen} rows that are neither held out nor for validation"
        problem = f"a pool of {pool} may keep {kept(pool)} columns, with which least squares fits exactly {fitted}"
        raise BadInput("pool", problem, "give a smaller pool, or residual='none'")
    pools = tuple(count for count in POOLS if count < dim and 2 * kept(count) <= seen) or (1,)
    return _Plan(
        pools if pool is None else (pool,),
        Recipe(options["neurons"], RELU, options["residual"]),
        options["parity"],
        options["biases"],
        options["fine_tune_steps"],
        options["compare"],
        2 * dim <= seen,
    )


def _verify_memory(plan: _Plan, memory: float, stream: TableSamples, key: RandomKey) -> None:
    """Raises BadInput, before anything compiles, where a fit needs more than ``memory`` bytes; names what to reduce."""
    mask, scalar = np.ones(stream.dim, bool), jax.ShapeDtypeStruct((), stream.dtype)

    def needed(neurons: int, biases: int) -> float:
        sized = replace(plan, recipe=replace(plan.recipe, neurons=neurons))
        trial = lambda recipe, width: (_tried, (recipe, width, stream, key, mask, np.int32(ALL)))  # noqa: E731
        programs = [
            (_chosen, (sized, stream, jax.ShapeDtypeStruct((biases,), stream.dtype), scalar)),
            trial(sized.recipe, plan.width(stream.dim)),
        ]
        programs += [trial(sized.unpruned, stream.dim)] if plan.compare else []
        if plan.fine_tune_steps:
            program, given = programs[1]
            one = lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)  # noqa: E731
            network = jax.tree.map(one, jax.eval_shape(partial(program, *given[:2]), *given[2:]).networks)
            programs.append((_fine_tuned, (stream, mask, network, plan.fine_tune_steps)))
        return max(held_bytes(program.trace(*given).jaxpr.jaxpr) for program, given in programs)

    neurons, biases = plan.recipe.neurons, plan.biases
    if (size := needed(neurons, biases)) <= memory:
        return
    sizes = f"the fit needs {size_text(size)}, {size_text(memory)} allowed"
    if needed(1, 1) > memory:
        raise BadInput("x", f"{sizes}, for {stream.dim} columns", "raise memory or leave columns out")
    name = "neurons" if needed(1, biases) <= needed(neurons, 1) else "biases"
    raise BadInput(name, sizes, f"raise memory or give fewer {name}")
