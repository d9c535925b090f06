"""Moves the misplaced points of a fit to where their own distances fit best.

Least squares over distances has poor local minima in which a few points are mirrored behind their neighbours, and no
small step leads them back. With its neighbours fixed, a point is fitted to its own distances from many starts.
"""

from typing import NamedTuple

import numpy as np

from gpsense.recovery.maps import Distances
from gpsense.recovery.steps import Problem, State, balanced

STARTS = 10
STEPS = 15
SLOW, LEAST = 2, 1e-3  # steps in a row that lower every sum of squares by less than this share, after which a fit ends
WORSE = 3.0  # times the median misfit of a point, above which it may be moved
BETTER = 0.7  # share of its misfit at which a move is taken
FEW, FAR = 6, 30.0  # most points left out one by one, and their misfit over the median, above which they are
CROWD = 50  # points that may be moved in one round


class Ties(NamedTuple):
    """The distances of every point: entries ``starts[i]:starts[i + 1]`` lead from point i to points ``second``."""

    second: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, problem: Problem) -> "Ties":
        """The ties of a problem; each pair is listed under both of its points."""
        places = problem.map
        assert isinstance(places, Distances)
        first, second = (
            np.concatenate(each) for each in ((places.first, places.second), (places.second, places.first))
        )
        order = np.argsort(first, kind="stable")
        starts = np.searchsorted(first[order], np.arange(places.dim + 1))
        values, weights = (np.tile(each, 2)[order] for each in (problem.values, problem.weights))
        return cls(second[order], values, weights, starts)

    def at(self, i: int) -> np.ndarray:
        """Indices of the distances of point i."""
        return np.arange(self.starts[i], self.starts[i + 1])

    def cost(self, points: np.ndarray, i: int) -> float:
        """Weighted sum of squared residuals of the distances of point i."""
        mine = self.at(i)
        left = np.sum((points[i] - points[self.second[mine]]) ** 2, axis=1) - self.values[mine]
        return float(self.weights[mine] @ left**2)

    def costs(self, points: np.ndarray) -> np.ndarray:
        """The :meth:`cost` of every point."""
        first = np.repeat(np.arange(len(points)), np.diff(self.starts))
        left = np.sum((points[first] - points[self.second]) ** 2, axis=1) - self.values
        return np.bincount(first, self.weights * left**2, minlength=len(points))


def relocated(problem: Problem, state: State, rng: np.random.Generator) -> State | None:
    """The state with the worst points moved to where their distances fit best; None if none fits better elsewhere."""
    ties, points = Ties.of(problem), state.factors[0].copy()
    cost = ties.costs(points)
    worst = np.argsort(-cost)[: min(CROWD, len(points) // 3 + 1)]
    moved = False
    for i in worst[cost[worst] > WORSE * np.median(cost)]:
        now, here = ties.cost(points, i), points[i].copy()
        points[i] = _placed(points, ties, i, rng)
        if ties.cost(points, i) < BETTER * now:
            moved = True
        else:
            points[i] = here
    return balanced((points - points.mean(0),), 1.0) if moved else None


def suspects(problem: Problem, state: State) -> np.ndarray:
    """The few points whose distances are explained far worse than those of others, the worst first."""
    cost = Ties.of(problem).costs(state.factors[0])
    worst = np.argsort(-cost)[:FEW]
    return worst[cost[worst] > FAR * np.median(cost)]


def without_point(problem: Problem, point: int) -> Problem:
    """The problem without the distances of a point."""
    places = problem.map
    assert isinstance(places, Distances)
    return problem.take(np.flatnonzero((places.first != point) & (places.second != point)))


def put_back(problem: Problem, state: State, point: int, rng: np.random.Generator) -> State:
    """The state with ``point`` moved to where its distances to the others fit best."""
    points = state.factors[0].copy()
    points[point] = _placed(points, Ties.of(problem), point, rng)
    return balanced((points - points.mean(0),), 1.0)


def _placed(points: np.ndarray, ties: Ties, i: int, rng: np.random.Generator) -> np.ndarray:
    """The place (k,) of point i at which its distances fit best, from many starts."""
    which = ties.at(i)
    here, near, squares, heights = points[i], points[ties.second[which]], ties.values[which], ties.weights[which]
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
    return places[int(np.argmin(cost))]


def _fit(
    places: np.ndarray, near: np.ndarray, squares: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each place the gaps to ``near``, the residuals of their squared lengths, and the weighted sum of squares."""
    gap = places[:, None, :] - near
    residual = np.einsum("cmk,cmk->cm", gap, gap) - squares
    return gap, residual, residual**2 @ heights
