"""Winning tickets of a network of one's own: any Equinox module and data, as a grid of rules, shares and seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import ArrayLike

from gpsense._types import RandomKey
from gpsense.errors import BadInput
from gpsense.grid.axes import Axis, Grid
from gpsense.grid.run import run_grid
from gpsense.pipeline import Schedule
from gpsense.systems import NetworkProblem, NetworkSystem
from gpsense.systems._weights import Ticket, WeightsSetting, WeightsSpec, rounds_to
from gpsense.tickets.network import LOSSES, Samples, Task, cross_entropy, misclassified

MEMORY = 4 * 2**30
RENAMED = {"round_steps": "steps", "memory_gib": "memory"}
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class OwnSpec(WeightsSpec):
    """Static: the task beside those of :class:`gpsense.systems._weights.WeightsSpec`."""

    task: Task | None = None
    n: int = 1


class OwnInstance(eqx.Module):
    """Nothing changes the data."""


class Own(NetworkSystem):
    """A network and data that somebody brings, behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "own"
    Spec: ClassVar[type] = OwnSpec
    Instance: ClassVar[type] = OwnInstance
    Setting: ClassVar[type] = WeightsSetting

    def __init__(self, train: Samples, test: Samples):
        self.data = NetworkProblem(train, test)

    def check_data(self, spec: Any) -> None:
        """Nothing: data and network are looked at before there is a spec."""

    def describe(self, spec: Any) -> str:
        return f"a network of one's own, rule {spec.rule}"

    def task(self, spec: Any) -> Task:
        return spec.task

    def numbers(self, spec: Any) -> tuple[int, int, int]:
        train, test = (samples.inputs for samples in self.data)
        return max(train[0].size, 1), train.size, test.size

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return self.data

    def measures(self, spec: Any, problem: Any, setting: Any, state: Ticket) -> dict[str, Any]:
        return {"weights": ravel_pytree(state.run.factor)[0]}


@dataclass(frozen=True)
class Tickets:
    """What was found: ``results``, a Dataset over rule, seed and kept, and the networks themselves.

    Of the Dataset ``error`` is the mean error on the test samples, ``error_trained`` before the last pruning,
    ``error_pruned`` where training of the ticket began, ``error_curve`` along the run; ``weights`` are all numbers of
    the trained ticket, 0 where pruned.
    """

    results: xr.Dataset
    task: Task

    def network(self, rule: str, kept: float, seed: int) -> Any:
        """The trained ticket as a module; its pruned weights are 0. KeyError for a cell that is not there."""
        for name, value in (asked := {"rule": rule, "kept": kept, "seed": seed}).items():
            if value not in (known := self.results[name].values.tolist()):
                raise KeyError(f"{name}: no {value!r}; use one of {', '.join(map(str, known))}")
        cell = self.results["weights"].sel(asked)
        dtype = cell.dtype
        shapes = eqx.filter_eval_shape(self.task.draw, jax.random.key(0), dtype)
        _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        return self.task.model(unravel(jnp.asarray(cell.values)))


def find_tickets(
    make: Callable[[RandomKey], Any],
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    loss: str | Callable[[Any, Any], Any] = "cross_entropy",
    error: str | Callable[[Any, Any], Any] | None = None,
    rules: Sequence[str] = ("iterative_magnitude", "magnitude", "random"),
    kept: Sequence[float] | float = (1.0, 0.107, 0.028),
    seeds: int | Sequence[int] = 8,
    steps: int = 400,
    share: float = 0.2,
    rate: float = 0.005,
    optimizer: str = "adam",
    momentum: float = 0.9,
    batch: int | None = None,
    rewind: str = "start",
    rewind_step: int = 0,
    score_rounds: int | None = None,
    memory: float = MEMORY,
) -> Tickets:
    """Prune a network by several rules to several shares of its weights and train what is left, each from every seed.

    ``make(key)`` returns an Equinox module that maps one input to its outputs; arrays of two axes or more that are not
    called ``bias`` are pruned. ``train`` and ``test``: inputs (n, ...) and targets (n, ...). ``loss`` and ``error``:
    cross_entropy, squared (summed over outputs), for ``error`` misclassified, or a function of outputs and targets
    (n, ...) to (n,) numbers. ``error`` None: misclassified beside cross_entropy, else the loss.

    ``rules``: iterative_magnitude (rounds of ``steps`` steps, each deleting a ``share`` of what is left and rewinding
    to ``rewind_step``), magnitude (at once), random, snip, grasp, synflow, none. Whatever the rule, a network of share
    ``kept`` has been trained for as many rounds as iterative pruning takes to it, to the nearest, and then ``steps``
    more, alone: all rules have the same steps. Seeds draw the network and the minibatches (``batch`` samples a step;
    None: all). Random, snip, grasp and synflow prune in ``score_rounds`` scorings; None: 100 for synflow, else 1.

    BadInput for what cannot be; cells that diverge are NaN and say so in ``status``.
    """
    samples = _samples("train", train), _samples("test", test)
    shape = samples[0].inputs.shape[1:]
    if samples[1].inputs.shape[1:] != shape:
        raise BadInput("test", f"inputs of shape {samples[1].inputs.shape[1:]}", f"give inputs of shape {shape}")
    _count("steps", steps)
    for name, value in (("batch", batch), ("score_rounds", score_rounds)):
        if value is not None:
            _count(name, value)
    numbers = _numbers({"share": share, "rate": rate, "momentum": momentum})
    axes = (Axis("rule", _rules(rules)), Axis("kept", _shares(kept)), *numbers)
    error = ("misclassified" if loss == "cross_entropy" else loss) if error is None else error
    task = Task(make, shape, _judge("loss", loss), _judge("error", error))
    for name, part in zip(("train", "test"), samples, strict=True):
        _try(name, task, part)
    constants = {
        "task": task,
        "n": len(samples[0].targets),
        "dtype": str(samples[0].used.dtype),
        "optimizer": optimizer,
        "round_steps": steps,
        "rewind": rewind,
        "rewind_step": rewind_step,
        "score_rounds": score_rounds,
        "batch": batch,
    }
    rounds = max(rounds_to(each, share) for each in axes[1].values)
    grid = Grid(Own(*samples), Schedule(rounds * steps, steps, steps), _seeds(seeds), axes, constants)
    try:
        return Tickets(run_grid(grid, memory), task)
    except BadInput as refusal:
        field = refusal.field.split(".")[-1]
        raise BadInput(RENAMED.get(field, field), refusal.problem, refusal.remedy) from None


def _count(name: str, value: Any, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise BadInput(name, f"{value!r}", f"give a whole number, {least} or more")


def _rules(rules: Sequence[str]) -> tuple[str, ...]:
    """The rules, each known."""
    listed = (rules,) if isinstance(rules, str) else tuple(rules or ())
    for rule in listed:
        if rule not in Own.rules:
            raise BadInput("rules", f"no {rule!r}", f"use any of {', '.join(Own.rules)}")
    if not listed:
        raise BadInput("rules", "none is given", f"use any of {', '.join(Own.rules)}")
    return listed


def _shares(kept: Sequence[float] | float) -> tuple[float, ...]:
    """Shares above 0 and at most 1."""
    listed = (kept,) if isinstance(kept, Real) else tuple(kept)  # pyright: ignore[reportArgumentType]
    if not listed or not all(isinstance(each, Real) and 0 < float(each) <= 1 for each in listed):
        raise BadInput("kept", f"{listed}", "give one or more shares above 0 and at most 1")
    return tuple(float(each) for each in listed)


def _numbers(given: dict[str, Any]) -> list[Axis]:
    """One value each of the step size, the momentum and the share that a round prunes."""
    ends = {"share": (0, 1), "rate": (0, np.inf), "momentum": (-1e-300, 1)}
    for name, value in given.items():
        low, high = ends[name]
        if isinstance(value, bool) or not isinstance(value, Real) or not low < float(value) < high:
            bounds = {"share": "between 0 and 1", "rate": "above 0", "momentum": "from 0 to below 1"}[name]
            raise BadInput(name, f"{value!r}", f"give a number {bounds}")
    return [Axis(name, (float(value),), False) for name, value in given.items()]


def _seeds(seeds: int | Sequence[int]) -> Axis:
    """So many seeds from 0, or those listed."""
    if isinstance(seeds, int | np.integer):
        _count("seeds", seeds)
        if seeds > MOST_SEEDS:
            raise BadInput("seeds", f"{seeds}", f"use at most {MOST_SEEDS}")
        return Axis("seed", tuple(range(int(seeds))))
    listed = tuple(seeds) if isinstance(seeds, Sequence) else ()
    for seed in listed:
        _count("seeds", seed, 0)
    if not listed:
        raise BadInput("seeds", f"{seeds!r}", "give their number, or a list of whole numbers")
    return Axis("seed", listed)


def _samples(name: str, pair: tuple[ArrayLike, ArrayLike]) -> Samples:
    """Inputs in the default precision and targets, all rows in use."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise BadInput(name, f"{type(pair).__name__}", "give a pair of inputs and targets")
    inputs, targets = (np.asarray(each) for each in pair)
    if inputs.ndim < 2 or targets.ndim < 1 or len(inputs) != len(targets) or not len(inputs):
        problem = f"inputs of shape {inputs.shape} and targets of shape {targets.shape}"
        raise BadInput(name, problem, "give (n, ...) and (n, ...), n the same and not 0")
    if inputs.dtype.kind not in "fiub" or targets.dtype.kind not in "fiub":
        raise BadInput(name, f"{inputs.dtype} and {targets.dtype}", "give arrays of numbers")
    if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
        raise BadInput(name, "numbers that are not finite", "leave those rows out")
    dtype = jnp.result_type(float)
    kind = dtype if targets.dtype.kind == "f" else jnp.int32
    return Samples(jnp.asarray(inputs, dtype), jnp.asarray(targets, kind), jnp.ones((len(inputs),), dtype))


def _judge(field: str, judge: str | Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A loss or an error by name, or as given."""
    if callable(judge):
        return judge
    known = [name for name in LOSSES if field == "error" or name != "misclassified"]  # which has no slope
    if judge not in known:
        raise BadInput(field, f"no {judge!r}", f"give a function or one of {', '.join(known)}")
    return LOSSES[judge]


def _try(name: str, task: Task, samples: Samples) -> None:
    """Shapes of one pass; BadInput where network, data and judges do not fit one another."""
    try:
        params = eqx.filter_eval_shape(task.draw, jax.random.key(0), samples.used.dtype)
        outputs = eqx.filter_eval_shape(task.outputs, params, samples.inputs)
        outputs.shape[0]  # one array, not several
    except BadInput:
        raise
    except Exception as error:  # a network that is not ours can fail in any way
        raise BadInput(
            "make",
            f"its network cannot be run on the inputs ({_first(error)})",
            "give a function of a key that returns one",
        ) from error
    for field, judge in (("loss", task.loss), ("error", task.error)):
        try:
            shape = eqx.filter_eval_shape(judge, outputs, samples.targets).shape
        except Exception as error:  # nor is a function of somebody's
            problem = f"it cannot judge outputs of shape {outputs.shape} ({_first(error)})"
            raise BadInput(field, problem, f"make it fit {name}'s targets of shape {samples.targets.shape}") from error
        if shape != samples.used.shape:
            raise BadInput(field, f"gives shape {shape} for {len(samples.used)} rows", "return one number a row")
        if judge in (cross_entropy, misclassified):
            least, most = int(samples.targets.min()), int(samples.targets.max())
            if least < 0 or most >= outputs.shape[-1]:
                problem = f"labels from {least} to {most} for {outputs.shape[-1]} outputs"
                raise BadInput(name, problem, "number the classes from 0, an output each")


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
