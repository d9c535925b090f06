"""Baselines in NumPy and PyTorch: Algorithm 1 of arXiv 2406.08658 with all arrays in memory; drawing Gaussians."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from launch.bench.rows import optional

CONTRACTION = 0.5
BATCH = 2**20


@dataclass(frozen=True)
class Size:
    """The numbers of samples, inputs and ``neurons``.

    In pruning, ``neurons`` counts the biases tried for every input; in the one step, the pairs of mirrored neurons.
    """

    n: int
    dim: int
    neurons: int


class Pruning(NamedTuple):
    """One task of pruning: x (n, dim + 1), its last column pure noise, y (n,), the biases, and ``pool``.

    ``pool`` is M of the paper: a coordinate's score sums its M largest squares, and each part keeps M coordinates.
    """

    x: np.ndarray
    y: np.ndarray
    biases: np.ndarray
    pool: int


Pruner = Callable[[Pruning], tuple[np.ndarray, np.ndarray]]


def numpy_prune(task: Pruning) -> tuple[np.ndarray, np.ndarray]:
    """Squared scores (2, dim) by the even and the odd part of a ReLU, and the mask of coordinates kept, in NumPy."""
    x, z = task.x[:, :-1], task.x[:, -1:]
    dim, aside = x.shape[1], np.sqrt(np.float32(1 - CONTRACTION**2))
    along, seen = np.float32(CONTRACTION) * x + aside * z, task.y[:, None] * x / np.float32(len(x))
    squares = np.zeros((2, dim), np.float32)
    for bias in task.biases:
        one, other = (along + bias > 0).astype(np.float32), (bias - along > 0).astype(np.float32)
        for part, slope in enumerate(((one - other) / 2, (one + other) / 2)):
            found = np.abs(slope.T @ seen)
            squares[part] += (np.partition(found, dim - task.pool, axis=1)[:, dim - task.pool :] ** 2).sum(1)
    bias = abs(task.biases[0])
    linear = np.abs((((z + bias > 0).astype(np.float32) + (bias - z > 0)) / 2).T @ seen)
    places = np.argsort(-np.concatenate([squares, linear]), axis=1, kind="stable")[:, : task.pool]
    return squares, np.isin(np.arange(dim), places)


def torch_prune(task: Pruning) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`numpy_prune`, in PyTorch."""
    torch = optional("torch")
    inputs, y = torch.from_numpy(task.x), torch.from_numpy(task.y)
    x, z = inputs[:, :-1], inputs[:, -1:]
    along, seen = CONTRACTION * x + (1 - CONTRACTION**2) ** 0.5 * z, y[:, None] * x / len(x)
    squares = torch.zeros(2, x.shape[1])
    for bias in task.biases.tolist():
        one, other = (along + bias > 0).float(), (bias - along > 0).float()
        for part, slope in enumerate(((one - other) / 2, (one + other) / 2)):
            squares[part] += ((slope.T @ seen).abs().topk(task.pool, dim=1).values ** 2).sum(1)
    bias = abs(float(task.biases[0]))
    linear = ((((z + bias > 0).float() + (bias - z > 0).float()) / 2).T @ seen).abs()
    places = torch.cat([squares, linear]).topk(task.pool, dim=1).indices.numpy()
    return squares.numpy(), np.isin(np.arange(x.shape[1]), places)


def numpy_draw(count: int) -> None:
    """Draws standard Gaussians by the ziggurat, batch after batch into the same memory."""
    generator, batch = np.random.default_rng(0), np.empty(min(count, BATCH), np.float32)
    for start in range(0, count, BATCH):
        generator.standard_normal(out=batch[: count - start], dtype=np.float32)


def torch_draw(count: int) -> None:
    """As :func:`numpy_draw`, in PyTorch."""
    torch = optional("torch")
    generator, batch = torch.Generator().manual_seed(0), torch.empty(min(count, BATCH))
    for start in range(0, count, BATCH):
        batch[: count - start].normal_(generator=generator)


PRUNERS: dict[str, Pruner] = {"pruning, NumPy": numpy_prune, "pruning, PyTorch": torch_prune}
DRAWS: dict[str, Callable[[int], Any]] = {"drawing, NumPy": numpy_draw, "drawing, PyTorch": torch_draw}
