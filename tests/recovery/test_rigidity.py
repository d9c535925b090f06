"""Which points their distances fix, against the graph theory of small cases."""

import itertools

import numpy as np
import pytest

import gpsense
from gpsense.recovery.rigidity import behind


def _groups(*groups):
    """All pairs within each group of points."""
    pairs = sorted({pair for group in groups for pair in itertools.combinations(sorted(group), 2)})
    first, second = np.array(pairs).T
    return first, second


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_groups_that_share_too_few_points_may_be_mirrored(dim):
    """Two rigid groups are one where they share dim + 1 points; with dim points the smaller one has a mirror image."""
    large, rest = range(11), range(11, 18)
    for shared in (dim, dim + 1):
        first, second = _groups(large, [*range(11 - shared, 11), *rest])
        np.testing.assert_array_equal(behind(first, second, 18, dim), list(rest) if shared == dim else [])


@pytest.mark.parametrize("seed", range(6))
def test_on_a_line_points_beyond_a_cut_are_behind_it(seed):
    """Distances on a line fix a graph that no single point cuts in two: the largest such part, found by brute force."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(14), 2))
    pairs = [pairs[place] for place in sorted(rng.choice(len(pairs), 20, replace=False))]
    first, second = np.array(pairs).T

    def together(without):
        """Labels of the connected parts without one point."""
        labels = list(range(14))
        for _ in range(14):
            for i, j in pairs:
                if without not in (i, j):
                    labels[i] = labels[j] = min(labels[i], labels[j])
        return labels

    parts = [together(cut) for cut in range(14)]
    fixed = lambda group: all(  # noqa: E731
        len({parts[cut][point] for point in group if point != cut}) == 1 for cut in range(14)
    )
    edges = [frozenset(pair) for pair in pairs]
    blocks = [{*edge, *(point for point in range(14) if fixed({*edge, point}))} for edge in edges]
    found = set(range(14)) - set(behind(first, second, 14, 1).tolist())
    assert len(found) == max(map(len, blocks))
    assert found in blocks


def test_few_points_and_few_distances_are_not_looked_at():
    assert behind(np.array([0, 0]), np.array([1, 2]), 3, 2).size == 0
    assert behind(np.array([0, 1]), np.array([1, 2]), 9, 1).size == 0


def test_places_that_two_groups_share_are_told():
    rng = np.random.default_rng(4)
    places = rng.uniform(0, 10, size=(18, 2))
    first, second = _groups(range(11), [9, 10, *range(11, 18)])
    distances = np.linalg.norm(places[first] - places[second], axis=1) + 0.01 * rng.normal(size=first.size)
    found = gpsense.recover({"i": first, "j": second, "distance": distances})
    told = "7 points connected to the rest through at most 2 others, which may be mirrored there"
    assert found.undetermined == (f"{told}: 11, 12, 13, 14, 15, 16 and 1 more",)
    assert np.isinf(found.standard_errors(np.arange(11, 18), np.zeros(7, int))).all()
    assert np.isfinite(found.standard_errors(np.arange(11), np.zeros(11, int))).all()
    more = np.r_[first, 0], np.r_[second, 17], np.r_[distances, np.linalg.norm(places[0] - places[17])]
    assert gpsense.recover(dict(zip(("i", "j", "distance"), more, strict=True))).undetermined == ()
