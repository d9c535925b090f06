"""Baselines in PyTorch: an eager loop with automatic differentiation, and the penalties batched by hand."""

import os
from typing import Any

import numpy as np

from launch.bench.numpy_baselines import packed_gram
from launch.bench.rows import optional
from launch.bench.timing import Baseline, Cell, Outcome, Seed, cell_by_cell, fastest, seed_by_seed
from launch.bench.workload import Problem, Workload


def _autograd(workload: Workload, problem: Problem) -> Cell:
    """The cell as a function of the penalty, in eager PyTorch by automatic differentiation, columns deleted."""
    torch = optional("torch")
    rows = torch.from_numpy(problem.matrices).reshape(len(problem.values), -1)
    values = torch.from_numpy(problem.values)

    def descend(factor: Any, penalty: float, steps: int) -> Any:
        factor.requires_grad_(True)
        for _ in range(steps):
            loss = ((rows @ (factor @ factor.T).reshape(-1) - values) ** 2).mean()
            if penalty:
                squares = (factor**2).sum(0)
                loss = loss + penalty * (squares / torch.sqrt(squares + workload.smoothing)).sum()
            (gradient,) = torch.autograd.grad(loss, factor)
            with torch.no_grad():
                factor -= workload.rate * gradient
        return factor.detach()

    def cell(penalty: float) -> np.ndarray:
        trained = descend(torch.from_numpy(problem.start).clone(), penalty, workload.train)
        kept = trained[:, torch.linalg.vector_norm(trained, dim=0) > workload.threshold]
        return descend(kept, 0.0, workload.fine_tune).numpy()

    return cell


def _shared(workload: Workload, problem: Problem) -> Seed:
    torch = optional("torch")
    n, dim, _ = problem.matrices.shape
    rows, values = torch.from_numpy(problem.matrices).reshape(n, -1), torch.from_numpy(problem.values)

    def residual(squares: Any) -> Any:
        misfit = torch.addmm(values, squares.view(-1, dim * dim), rows.T, beta=-1)
        return (misfit @ rows).div_(n).view(-1, dim, dim)

    return _batch(workload, problem, residual)


def _gram(workload: Workload, problem: Problem) -> Seed:
    torch = optional("torch")
    n, dim, _ = problem.matrices.shape
    rows = torch.from_numpy(problem.matrices).reshape(n, -1)
    gram, slope = rows.T @ rows / n, torch.from_numpy(problem.values) @ rows / n

    def residual(squares: Any) -> Any:
        return torch.addmm(slope, squares.view(-1, dim * dim), gram, beta=-1).view(-1, dim, dim)

    return _batch(workload, problem, residual)


def _packed_gram(workload: Workload, problem: Problem) -> Seed:
    torch, dim = optional("torch"), problem.start.shape[0]
    upper, place, gram, slope = (torch.from_numpy(array) for array in packed_gram(problem))
    place = place.view(-1)

    def residual(squares: Any) -> Any:
        packed = squares.view(-1, dim * dim).index_select(1, upper)
        return torch.addmm(slope, packed, gram, beta=-1).index_select(1, place).view(-1, dim, dim)

    return _batch(workload, problem, residual)


def _batch(workload: Workload, problem: Problem, residual: Any) -> Seed:
    """The cells of all penalties at once: factors (penalties, dim, width), fine-tuned at the largest width left.

    ``residual`` maps ``U U^T`` (penalties, dim, dim) to ``(1/n) A*(A(U U^T) - y)`` of the same shape.
    """
    torch, rate, smoothing = optional("torch"), workload.rate, workload.smoothing

    def seed(penalties: tuple[float, ...]) -> list[np.ndarray]:
        with torch.no_grad():
            weights = torch.tensor(penalties).view(-1, 1, 1)
            factors = torch.from_numpy(problem.start).expand(len(penalties), -1, -1).contiguous()
            for _ in range(workload.train):
                squares = (factors * factors).sum(1, keepdim=True)
                shrink = (squares + 2 * smoothing) / (squares + smoothing).pow_(1.5)
                pull = residual(torch.bmm(factors, factors.mT))
                factors = torch.baddbmm(factors * (1 - rate * weights * shrink), pull, factors, alpha=-4 * rate)
            norms = torch.linalg.vector_norm(factors, dim=1)
            mask = norms > workload.threshold
            order = (~mask).int().argsort(dim=1, stable=True)[:, None, : max(1, int(mask.sum(1).max()))]
            factors = torch.where(mask[:, None], factors, 0.0).gather(2, order.expand(-1, factors.shape[1], -1))
            for _ in range(workload.fine_tune):
                pull = residual(torch.bmm(factors, factors.mT))
                factors = torch.baddbmm(factors, pull, factors, alpha=-4 * rate)
            return list(factors.numpy())

    return seed


def _threads(baseline: Baseline, count: int) -> Baseline:
    """The baseline with this many threads for PyTorch's operators."""

    def run(workload: Workload, problems: list[Problem]) -> Outcome:
        torch = optional("torch")
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return baseline(workload, problems)
        finally:
            torch.set_num_threads(before)

    return run


def _ways(baselines: dict[str, Baseline]) -> dict[str, Baseline]:
    """Each baseline with one thread, and with one per core."""
    threads = {count: f"{count} thread{'s' * (count > 1)}" for count in sorted({1, os.cpu_count() or 1})}
    return {
        name + label: _threads(baseline, count)
        for name, baseline in baselines.items()
        for count, label in threads.items()
    }


FORMS = {"packed Gram matrix": _packed_gram, "Gram matrix": _gram, "A itself": _shared}
autograd = fastest(_ways({"": cell_by_cell(_autograd)}))
batched = fastest(_ways({f"{name}, ": seed_by_seed(prepare) for name, prepare in FORMS.items()}))
