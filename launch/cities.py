"""A worked example on real places: the map of 72 European cities from a part of their distances.

Coordinates: configs/recover/european_cities.csv, from GeoNames (geonames.org, CC BY 4.0). They are projected to a
plane (Lambert azimuthal equal-area, kilometres), where squared distances are exactly those of a rank-2 Gram matrix.
"""

import csv
from dataclasses import dataclass
from typing import Any

import numpy as np

from launch.paths import configs

TABLE = configs() / "recover" / "european_cities.csv"
EARTH_KM = 6371.0


@dataclass(frozen=True)
class Example:
    """The names of m cities, their true centred places (m, 2) in km, and simulated measurements by array name."""

    names: list[str]
    places: np.ndarray
    fields: dict[str, Any]

    def score(self, factor: np.ndarray) -> dict[str, float]:
        """Relative Frobenius error of the centred Gram matrix; median and largest error of a city's place."""
        centred = factor - factor.mean(0)
        truth = self.places @ self.places.T
        error = np.linalg.norm(centred @ centred.T - truth) / np.linalg.norm(truth)
        offsets = np.linalg.norm(self.aligned(factor) - self.places, axis=1)
        return {
            "error": float(error),
            "median_offset_km": float(np.median(offsets)),
            "largest_offset_km": float(offsets.max()),
        }

    def aligned(self, factor: np.ndarray) -> np.ndarray:
        """The recovered points, reduced to the plane, turned or mirrored onto the true ones (orthogonal Procrustes)."""
        centred = factor - factor.mean(0)
        plane = np.zeros((len(centred), 2))
        vectors, values, _ = np.linalg.svd(centred, full_matrices=False)
        kept = min(2, values.size)
        plane[:, :kept] = vectors[:, :kept] * values[:kept]
        left, _, right = np.linalg.svd(plane.T @ self.places)
        return plane @ left @ right


def example(share: float = 0.3, noise: float = 0.02, seed: int = 0) -> Example:
    """Measure a random share of the pairs with relative noise: ``y_ij = ||p_i - p_j||^2 (1 + noise g)``, in km^2."""
    names, places = load()
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(len(places), 1)
    pairs = np.sort(rng.permutation(first.size)[: round(share * first.size)])
    first, second = first[pairs], second[pairs]
    squares = ((places[first] - places[second]) ** 2).sum(1)
    measured = squares * (1 + noise * rng.standard_normal(squares.size))
    fields = {"y": measured, "i": first, "j": second, "kind": np.array("distances"), "dim": np.array(len(places))}
    return Example(names, places, fields)


def load() -> tuple[list[str], np.ndarray]:
    """The names of the m cities and their centred plane coordinates (m, 2) in km."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    degrees = np.array([[float(row["latitude"]), float(row["longitude"])] for row in rows])
    plane = project(*np.radians(degrees).T)
    return [row["name"] for row in rows], plane - plane.mean(0)


def project(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Lambert azimuthal equal-area projection about the mean direction; radians to km, shape (m, 2)."""
    ball = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    middle = ball.mean(1) / np.linalg.norm(ball.mean(1))
    tilt, turn = np.arcsin(middle[2]), longitude - np.arctan2(middle[1], middle[0])
    cosine = np.sin(tilt) * np.sin(latitude) + np.cos(tilt) * np.cos(latitude) * np.cos(turn)
    east = np.cos(latitude) * np.sin(turn)
    north = np.cos(tilt) * np.sin(latitude) - np.sin(tilt) * np.cos(latitude) * np.cos(turn)
    return EARTH_KM * np.sqrt(2 / (1 + cosine))[:, None] * np.stack([east, north], axis=1)
