"""Baselines for masked students and for iterative pruning: loops over cells in NumPy and in PyTorch."""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from launch.bench.rows import optional

JUDGED_EVERY = 10
Result = TypeVar("Result")


class Student(NamedTuple):
    """One student: samples x (n, dim), y (n,); mask, start and teacher (neurons, dim); settings of the descent."""

    x: np.ndarray
    y: np.ndarray
    mask: np.ndarray
    start: np.ndarray
    teacher: np.ndarray
    rate: float
    momentum: float
    tolerance: float
    success: float
    steps: int


class Pruned(NamedTuple):
    """One task of iterative pruning: images with labels, to train and to test on; start; ``rows``; parameters.

    ``start`` holds the initial weights and biases, layer by layer; ``rows`` (steps, batch) the indices of the images
    in each step.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    start: list[np.ndarray]
    rows: np.ndarray
    kept: float
    share: float
    rate: float
    round_steps: int
    fine_tune: int

    @property
    def rounds(self) -> int:
        """The number of rounds of iterative pruning down to the share ``kept``."""
        return rounds_to(self.kept, self.share)


def rounds_to(kept: float, share: float) -> int:
    """The number of rounds, each deleting ``share`` of what is left, after which about ``kept`` is left; at least 1."""
    return max(round(float(np.log(kept) / np.log1p(-share))), 1)


def numpy_student(task: Student) -> tuple[float, int]:
    """Relative error and steps of masked heavy ball, gradient by hand; stopping is checked every ten steps."""
    x, y, mask = task.x, task.y, task.mask.astype(task.x.dtype)
    weights, moving, size = task.start, np.zeros_like(task.start), np.linalg.norm(task.teacher)
    error, rate, momentum = float("nan"), x.dtype.type(task.rate), x.dtype.type(task.momentum)
    share, over = x.dtype.type(1 / len(mask)), x.dtype.type(1 / (len(mask) * len(y)))

    def gradient(weights: np.ndarray) -> np.ndarray:
        seen = x @ weights.T
        residual = np.maximum(seen, 0).sum(1) * share - y
        return ((seen > 0) * (residual * over)[:, None]).T @ x * mask

    for steps in range(0, task.steps, JUDGED_EVERY):
        slope = gradient(weights)
        if np.linalg.norm(slope) <= task.tolerance:
            return float(np.linalg.norm(weights - task.teacher) / size), steps
        for index in range(JUDGED_EVERY):
            moving = (gradient(weights) if index else slope) + momentum * moving
            weights = weights - rate * moving
        error = float(np.linalg.norm(weights - task.teacher) / size)
        if error <= task.success:
            return error, steps + JUDGED_EVERY
    return error, task.steps


def torch_student(task: Student) -> tuple[float, int]:
    """As :func:`numpy_student`, in eager PyTorch with automatic differentiation and ``torch.optim.SGD``."""
    torch = optional("torch")
    x, y, mask, teacher = (torch.from_numpy(each) for each in (task.x, task.y, task.mask, task.teacher))
    weights = torch.from_numpy(task.start).clone().requires_grad_(True)
    optimizer, size = torch.optim.SGD([weights], lr=task.rate, momentum=task.momentum), teacher.norm()
    error = float("nan")
    for step in range(task.steps):
        optimizer.zero_grad()
        loss = ((x @ weights.T).relu().mean(1) - y).square().mean() / 2
        loss.backward()
        weights.grad *= mask
        if step % JUDGED_EVERY == 0 and float(weights.grad.norm()) <= task.tolerance:
            return float((weights.detach() - teacher).norm() / size), step
        optimizer.step()
        if step % JUDGED_EVERY == JUDGED_EVERY - 1:
            error = float((weights.detach() - teacher).norm() / size)
            if error <= task.success:
                return error, step + 1
    return error, task.steps


def torch_ticket(task: Pruned) -> tuple[float, float]:
    """Iterative magnitude pruning with rewinding in PyTorch: share of test images misclassified, training loss."""
    return torch_path([task])[0]


def torch_path(tasks: list[Pruned]) -> list[tuple[float, float]]:
    """As :func:`torch_ticket` for several shares kept from one start; rounds they have in common are trained once."""
    torch = optional("torch")
    task = max(tasks, key=lambda one: one.rounds)
    (x, y), (test, labels) = ((torch.from_numpy(a), torch.from_numpy(b).long()) for a, b in (task.train, task.test))
    start, rows = [torch.from_numpy(each) for each in task.start], torch.from_numpy(task.rows).long()
    loss, total = torch.nn.functional.cross_entropy, sum(each.numel() for each in start[::2])

    def forward(params: list[Any], inputs: Any) -> Any:
        for place in range(0, len(params), 2):
            inputs = torch.nn.functional.linear(inputs if not place else inputs.relu(), *params[place : place + 2])
        return inputs

    def train(masks: list[Any], first: int, last: int) -> list[Any]:
        params = [(each * mask).requires_grad_(True) for each, mask in zip(start, masks, strict=True)]
        optimizer = torch.optim.Adam(params, lr=task.rate)
        for batch in rows[first:last]:
            optimizer.zero_grad()
            loss(forward(params, x[batch]), y[batch]).backward()
            for each, mask in zip(params[::2], masks[::2], strict=True):
                each.grad *= mask
            optimizer.step()
        return params

    def cut(masks: list[Any], trained: list[Any], least: float) -> list[Any]:
        with torch.no_grad():
            pairs = list(zip(trained[::2], masks[::2], strict=True))
            sizes = torch.cat([torch.where(mask > 0, each.abs(), -1).ravel() for each, mask in pairs])
            kept = torch.zeros_like(sizes).index_fill_(0, sizes.topk(round(least * total)).indices, 1.0)
        parts = iter(kept.split([each.numel() for each in trained[::2]]))
        return [mask if place % 2 else next(parts).view_as(mask) for place, mask in enumerate(masks)]

    def finish(masks: list[Any]) -> tuple[float, float]:
        params = train(masks, 0, task.fine_tune)
        with torch.no_grad():
            wrong = (forward(params, test).argmax(1) != labels).to(x.dtype).mean()
            return float(wrong), float(loss(forward(params, x), y))

    masks, found = [torch.ones_like(each) for each in start], {}
    for index in range(1, task.rounds + 1):
        trained = train(masks, task.round_steps * (index - 1), task.round_steps * index)
        for place, one in enumerate(tasks):
            if one.rounds == index:
                found[place] = finish(cut(masks, trained, one.kept))
        masks = cut(masks, trained, max(task.kept, (1 - task.share) ** index))
    return [found[place] for place in range(len(tasks))]


def on_best_threads(work: Callable[[], Result], trial: Callable[[], Any]) -> Callable[[], Result]:
    """``work`` with one PyTorch thread or one per core, whichever ran ``trial`` faster in the first call."""
    chosen: list[int] = []

    def on(count: int, call: Callable[[], Any]) -> tuple[Any, float]:
        torch = optional("torch")
        before, begun = torch.get_num_threads(), time.perf_counter()
        torch.set_num_threads(count)
        try:
            return call(), time.perf_counter() - begun
        finally:
            torch.set_num_threads(before)

    def run() -> Result:
        if not chosen:
            counts = sorted({1, os.cpu_count() or 1})
            on(1, trial)
            chosen.append(min(counts, key=lambda count: on(count, trial)[1]))
        return on(chosen[0], work)[0]

    return run
