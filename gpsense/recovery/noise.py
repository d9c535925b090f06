"""Noise whose size differs between values: whether it grows with them, and its variance as a function of them."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize

GROWING = 4.5  # standard deviations of a rank correlation that noise of one size does not reach
ROUNDS = 10  # of fitting the variance with weights from the fit before
LEAST, OF_MEAN = 0.01, 1e-4  # least variance of a value, over the median one and over the mean of them


def grows(sizes: np.ndarray, residual: np.ndarray) -> bool:
    """Whether residuals (n,) grow with the ``sizes`` (n,) of the fitted values, by Spearman's rank correlation."""
    by_size, by_residual = (np.argsort(np.argsort(np.abs(each))) for each in (sizes, residual))
    return bool(np.corrcoef(by_size, by_residual)[0, 1] * np.sqrt(sizes.size - 1) > GROWING)


@dataclass(frozen=True)
class Variance:
    """The variance of a value with expectation f, ``a + b |f| + c f^2`` with coefficients (a, b, c) of at least 0.

    ``b`` alone is the law of counts, ``c`` alone that of errors in per cent. No variance is below ``least``.
    """

    coefficients: np.ndarray
    least: float

    def of(self, expected: np.ndarray) -> np.ndarray:
        """The variances of values with these expectations, shape (n,)."""
        return np.maximum(_powers(expected) @ self.coefficients, self.least)


def fitted_variance(expected: np.ndarray, squares: np.ndarray) -> Variance:
    """The Variance fitted to the squared residuals ``squares`` (n,) at the expectations ``expected`` (n,).

    By least squares with coefficients of at least 0, each squared residual weighted by one over the square of its
    variance (that of a squared normal deviation is twice this square), which is taken from the round before.
    """
    powers = _powers(expected)
    size = np.maximum(powers.mean(0), 1e-300)
    variance = np.full(squares.size, max(float(squares.mean()), 1e-300))
    coefficients = np.array([float(squares.mean()), 0.0, 0.0])
    for _ in range(ROUNDS):
        scaled, _ = scipy.optimize.nnls(powers / size / variance[:, None], squares / variance)
        if not scaled.any():
            break
        coefficients = scaled / size
        variance = powers @ coefficients
        variance = np.maximum(variance, _least(variance))
    return Variance(coefficients, _least(powers @ coefficients))


def _least(variance: np.ndarray) -> float:
    """The least variance taken for true; the median may be 0, as where most expectations are."""
    return max(LEAST * float(np.median(variance)), OF_MEAN * float(variance.mean()))


def _powers(expected: np.ndarray) -> np.ndarray:
    return np.abs(expected)[:, None] ** np.arange(3.0)
