"""The baselines again, in NumPy float64 on explicit matrices A_i; shares no code with the package."""

import numpy as np


def residual(matrices, values, x):
    """R(X) = (1/n) sum_i (<A_i, X> - y_i) A_i."""
    out = np.zeros_like(x)
    for a, y in zip(matrices, values, strict=True):
        out += (np.sum(a * x) - y) * a
    return out / len(values)


def normal(matrices, x):
    """H(X) = (1/n) sum_i <A_i, X> A_i."""
    return residual(matrices, np.zeros(len(matrices)), x)


def loss(matrices, values, x):
    return np.mean([(np.sum(a * x) - y) ** 2 for a, y in zip(matrices, values, strict=True)])


def best_psd(x, rank):
    """Closest positive semidefinite matrix of this rank."""
    eigenvalues, vectors = np.linalg.eigh(x)
    out = np.zeros_like(x)
    for j in np.argsort(-eigenvalues)[:rank]:
        out += max(eigenvalues[j], 0.0) * np.outer(vectors[:, j], vectors[:, j])
    return out


def units(matrices, values):
    """b_1, the largest eigenvalue of (1/n) sum y_i A_i, and the curvature along its eigenvector."""
    b = -residual(matrices, values, np.zeros_like(matrices[0]))
    eigenvalues, vectors = np.linalg.eigh(b)
    top = np.outer(vectors[:, -1], vectors[:, -1])
    return eigenvalues[-1], np.mean([np.sum(a * top) ** 2 for a in matrices])


def spectral_estimate(matrices, values, rank):
    b = -residual(matrices, values, np.zeros_like(matrices[0]))
    x = best_psd(b, rank)
    images = [np.sum(a * x) for a in matrices]
    return x * np.dot(images, values) / np.dot(images, images)


def descend(matrices, values, u, rate, steps):
    """Gradient descent: U <- U - rate / (2 b_1) R U."""
    step = 0.5 * rate / units(matrices, values)[0]
    for _ in range(steps):
        u = u - step * residual(matrices, values, u @ u.T) @ u
    return u


def scaled(matrices, values, u, rate, curvature, damping, steps):
    """U <- U - rate / (2 c) R U (U^T U + damping(X) I)^-1."""
    for _ in range(steps):
        x = u @ u.T
        inverse = np.linalg.inv(u.T @ u + damping(x) * np.eye(u.shape[1]))
        u = u - 0.5 * rate / curvature * residual(matrices, values, x) @ u @ inverse
    return u


def gauss_newton(matrices, values, u, rate, curvature, steps):
    """U <- U - rate / c (I - P/2) R U (U^T U)^+ with P onto the columns of U, both from NumPy's pseudo-inverse."""
    for _ in range(steps):
        inverse = np.linalg.pinv(u)
        onto = u @ inverse
        u = u - rate / curvature * (np.eye(len(u)) - onto / 2) @ residual(matrices, values, u @ u.T) @ inverse.T
    return u


def held_out_stop(matrices, values, u, rate, steps):
    """Gradient descent on all but every fifth measurement; the factor, the first one too, of least loss on those."""
    held = np.arange(len(values)) % 5 == 4
    losses, path = [], [u]
    for _ in range(steps):
        path.append(descend(matrices[~held], values[~held], path[-1], rate, 1))
    losses = [loss(matrices[held], values[held], each @ each.T) for each in path]
    return path[int(np.argmin(losses))], losses


def best_of_rank(x, rank):
    """Closest symmetric matrix of this rank, and the projection onto its columns."""
    eigenvalues, vectors = np.linalg.eigh(x)
    out, onto = np.zeros_like(x), np.zeros_like(x)
    for j in np.argsort(-np.abs(eigenvalues))[:rank]:
        pair = np.outer(vectors[:, j], vectors[:, j])
        out, onto = out + eigenvalues[j] * pair, onto + pair
    return out, onto


def niht(matrices, values, rank, rate, steps):
    """Tanner and Wei's: mu = ||P R||^2 / ||A(P R)||^2 n with P onto the columns of X, from H_r(A*(y)/n)."""
    x, onto = best_of_rank(-residual(matrices, values, np.zeros_like(matrices[0])), rank)
    for _ in range(steps):
        r = residual(matrices, values, x)
        images = [np.sum(a * (onto @ r)) for a in matrices]
        mu = np.sum((onto @ r) ** 2) / np.mean(np.square(images))
        x, onto = best_of_rank(x - rate * mu * r, rank)
    return x


def trace_norm(matrices, values, step, penalty, steps):
    """FISTA with restarts on L(X) + 2 w b_1 tr X, w falling by 0.9 a step from 1/2 to the penalty."""
    top = units(matrices, values)[0]
    x = ahead = np.zeros_like(matrices[0])
    t, weight = 1.0, max(0.5, penalty)
    for _ in range(steps):
        shifted = ahead - step * (residual(matrices, values, ahead) + weight * top * np.eye(len(x)))
        moved = best_psd(shifted, len(x))
        if np.sum((ahead - moved) * (moved - x)) > 0:
            t, ahead = 1.0, moved
        else:
            after = (1 + np.sqrt(1 + 4 * t * t)) / 2
            ahead = moved + (t - 1) / after * (moved - x)
            t = after
        x, weight = moved, max(0.9 * weight, penalty)
    return x


def irls(matrices, values, width, penalty, steps):
    """Weighted least squares over the n multipliers: X = sum_i z_i W^-1(A_i), (K + n penalty c I) z = y."""
    top, curvature = units(matrices, values)
    size = top / curvature
    x, smoothing = np.zeros_like(matrices[0]), size
    for _ in range(steps):
        eigenvalues, v = np.linalg.eigh(x)
        weighted = []
        for a in matrices:
            turned = v.T @ a @ v
            for i in range(len(x)):
                for j in range(len(x)):
                    turned[i, j] *= ((eigenvalues[i] ** 2 + eigenvalues[j] ** 2) / 2 + smoothing**2) / size**2
            weighted.append(v @ turned @ v.T)
        kernel = np.array([[np.sum(a * w) for w in weighted] for a in matrices])
        z = np.linalg.solve(kernel + len(values) * penalty * curvature * np.eye(len(values)), values)
        x = sum(weight * w for weight, w in zip(z, weighted, strict=True))
        smoothing = min(smoothing, np.sort(np.abs(np.linalg.eigvalsh(x)))[::-1][width])
    return x
