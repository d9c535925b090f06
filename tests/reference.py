"""The formulas again, in NumPy float64 with loops; shares no code with the package."""

import numpy as np


def unpacked(rows, dim):
    """Matrices A_i from packed rows, entry by entry."""
    matrices = np.zeros((len(rows), dim, dim))
    for i, row in enumerate(rows):
        position = 0
        for a in range(dim):
            for b in range(a, dim):
                matrices[i, a, b] = matrices[i, b, a] = row[position] / (1.0 if a == b else np.sqrt(2.0))
                position += 1
    return matrices


def inner(a, b):
    """Frobenius inner product, term by term."""
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * b[i, j]
    return total


def gram(factor):
    """U U^T, entry by entry."""
    dim, width = factor.shape
    out = np.zeros((dim, dim))
    for a in range(dim):
        for b in range(dim):
            for j in range(width):
                out[a, b] += factor[a, j] * factor[b, j]
    return out


def forward(matrices, factor):
    x = gram(factor)
    return np.array([inner(matrix, x) for matrix in matrices])


def adjoint(matrices, values):
    out = np.zeros(matrices[0].shape)
    for matrix, value in zip(matrices, values, strict=True):
        out += value * matrix
    return out


def sensing_loss(matrices, values, factor):
    total = 0.0
    for predicted, value in zip(forward(matrices, factor), values, strict=True):
        total += (predicted - value) ** 2
    return total / len(values)


def smoothed_group_lasso(factor, smoothing):
    total = 0.0
    for j in range(factor.shape[1]):
        square = sum(x * x for x in factor[:, j])
        total += square / np.sqrt(square + smoothing)
    return total


def gradient(fn, factor, step=1e-6):
    """Central differences, entry by entry."""
    out = np.zeros_like(factor)
    for a in range(factor.shape[0]):
        for j in range(factor.shape[1]):
            up, down = factor.copy(), factor.copy()
            up[a, j] += step
            down[a, j] -= step
            out[a, j] = (fn(up) - fn(down)) / (2 * step)
    return out


def train(matrices, values, factor, penalty, smoothing, rate, steps):
    """Plain gradient descent on loss plus smoothed group lasso, by formula."""
    factor = factor.copy()
    for _ in range(steps):
        residual = forward(matrices, factor) - values
        slope = 4.0 / len(values) * adjoint(matrices, residual) @ factor
        for j in range(factor.shape[1]):
            square = float(factor[:, j] @ factor[:, j])
            slope[:, j] += penalty * (square + 2 * smoothing) / (square + smoothing) ** 1.5 * factor[:, j]
        factor -= rate * slope
    return factor
