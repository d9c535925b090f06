"""Points that sit in the wrong place of a map of distances, put where their own distances say.

Least squares over distances has poor minima in which a few points are mirrored behind their neighbours, where no small
step leads them back. A point's neighbours held still, its own distances are fitted from many starts.
"""

import numpy as np

from gpsense.recovery.maps import Distances
from gpsense.recovery.steps import Problem, State, balanced

STARTS = 10
STEPS = 15
SLOW, LEAST = 2, 1e-3  # steps in turn that take less than this share off every sum of squares, after which it ends
WORSE = 3.0  # times the median misfit of a point, above which it may be moved
CROWD = 50  # points that may be moved in one round


def relocated(problem: Problem, state: State, rng: np.random.Generator) -> State | None:
    """The state with the worst points moved to where their distances fit best; None if none fits better elsewhere."""
    places = problem.map
    assert isinstance(places, Distances)
    points = state.factors[0].copy()
    first = np.concatenate([places.first, places.second])
    second = np.concatenate([places.second, places.first])
    values, weights = np.tile(problem.values, 2), np.tile(problem.weights, 2)
    order = np.argsort(first, kind="stable")
    first, second, values, weights = first[order], second[order], values[order], weights[order]
    starts = np.searchsorted(first, np.arange(places.dim + 1))
    residual = np.sum((points[first] - points[second]) ** 2, axis=1) - values
    cost = np.bincount(first, weights * residual**2, places.dim)
    worst = np.argsort(-cost)[: min(CROWD, places.dim // 3 + 1)]
    moved = False
    for i in worst[cost[worst] > WORSE * np.median(cost)]:
        mine = slice(starts[i], starts[i + 1])
        near, squares, heights = points[second[mine]], values[mine], weights[mine]
        now = float(heights @ (np.sum((points[i] - near) ** 2, axis=1) - squares) ** 2)
        found, least = _placed(points[i], near, squares, heights, rng)
        if least < 0.7 * now:
            points[i] = found
            moved = True
    return balanced((points - points.mean(0),), 1.0) if moved else None


def _placed(
    here: np.ndarray, near: np.ndarray, squares: np.ndarray, heights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The place (k,) whose squared distances to ``near`` (m, k) fit best, from many starts, and its sum of squares."""
    width = near.shape[1]
    centre = near.mean(0)
    radius = np.sqrt(max(float(np.mean(squares)), 1e-300))
    draws = rng.standard_normal((STARTS, width))
    draws /= np.maximum(np.linalg.norm(draws, axis=1, keepdims=True), 1e-300)
    draws = np.unique(draws, axis=0) if width == 1 else draws  # on a line there are two directions
    places = np.concatenate([here[None], (2 * centre - here)[None], centre + radius * draws])
    damping = np.full(len(places), 1e-3)
    gap, residual, cost = _fit(places, near, squares, heights)
    slow = 0
    for _ in range(STEPS):
        weighted = heights[:, None] * gap
        gradient = 2 * (residual[:, None, :] @ weighted)[:, 0]
        normal = 4 * (weighted.transpose(0, 2, 1) @ gap)
        trace = np.trace(normal, axis1=1, axis2=2)
        normal[:, range(width), range(width)] += (damping * trace + 1e-300)[:, None]
        trial = places - np.linalg.solve(normal, gradient[:, :, None])[:, :, 0]
        there, left, after = _fit(trial, near, squares, heights)
        better = after < cost
        slow = 0 if np.any(after < (1 - LEAST) * cost) else slow + 1
        places, gap = np.where(better[:, None], trial, places), np.where(better[:, None, None], there, gap)
        residual, cost = np.where(better[:, None], left, residual), np.where(better, after, cost)
        damping = np.where(better, damping / 4, damping * 6)
        if slow == SLOW:
            break
    best = int(np.argmin(cost))
    return places[best], float(cost[best])


def _fit(
    places: np.ndarray, near: np.ndarray, squares: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each place the gaps to ``near``, what the squares of their lengths leave, and its weighted sum of squares."""
    gap = places[:, None, :] - near
    residual = np.einsum("cmk,cmk->cm", gap, gap) - squares
    return gap, residual, residual**2 @ heights
