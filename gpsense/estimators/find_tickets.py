"""Winning tickets of a user's own network, any Equinox module and data: a grid of rules, shares kept and seeds."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import ArrayLike

from gpsense._devices import start_devices
from gpsense._types import RandomKey
from gpsense.errors import BadInput, counted
from gpsense.fields import Field, Traced, arguments_named, real_array, shown, unknown_name
from gpsense.grid.axes import Axis, Grid
from gpsense.grid.calling import kind_of
from gpsense.grid.plan import make_plan
from gpsense.grid.results import diverged_words
from gpsense.grid.run import run_whole, verify_run
from gpsense.grid.store import read_dataset, write_dataset
from gpsense.keys import Keys, keys_of
from gpsense.optimizers import Optimizer
from gpsense.pipeline import MOST_STEPS, Schedule
from gpsense.pruning.leaves import What
from gpsense.pruning.weights import Numbers
from gpsense.systems._calling import needs_value
from gpsense.systems._contract import Cost, Measure
from gpsense.systems._networks import MEASURES, NetworkModel, NetworkProblem
from gpsense.systems._weights import WeightsSetting, WeightSystem, rounds_to
from gpsense.theory.tickets import samples_needed
from gpsense.tickets.host import HostRows
from gpsense.tickets.network import CRITERIA, Carried, Criterion, Outputs, Samples, Targets, Task, Values, first_words

MEMORY = 4 * 2**30
TRACED = "use jax.numpy, jnp.where and jax.lax.cond there, not NumPy, float() or an if"
ARGUMENTS = {"round_steps": "steps", "rule": "rules"}  # of fields whose names differ


class TicketsData(Traced):
    """The traced fields that change the data: none."""


@final
class TicketsSetting(WeightsSetting):
    """The traced settings: those of :class:`gpsense.systems._weights.WeightsSetting`."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TicketSearch(WeightSystem[TicketsData, TicketsSetting, NetworkProblem]):
    """A user's network and data, with ``n`` training samples; instances are equal only if they are the same object."""

    name: ClassVar[str] = "find_tickets"
    Data: ClassVar[type[TicketsData]] = TicketsData
    Setting: ClassVar[type[TicketsSetting]] = TicketsSetting
    measures: ClassVar[Mapping[str, Measure]] = {
        **MEASURES,
        "weights": Measure("all parameters of the trained ticket, 0 where pruned", dims=("weight",)),
        "averages": Measure("averages of the ticket's batch norms over the training samples", dims=("average",)),
        "validation_curve": Measure("mean loss over the validation samples along the run", "loss", ("step",)),
    }
    own_code: ClassVar[bool] = True

    task: Annotated[Task, Field(hidden=True)]
    samples: Annotated[NetworkProblem, Field(hidden=True)]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def describe(self) -> str:
        return f"a user's network, rule {self.rule}"

    def labels(self) -> Mapping[str, Sequence[str]]:
        return {"layer": self.model.layers}

    def cost(self) -> Cost:
        return self.model.cost(len(self.samples.test.targets))

    def draw(self, data: TicketsData, key: RandomKey) -> NetworkProblem:
        """The samples, whatever the key."""
        return self.samples

    @property
    def model(self) -> NetworkModel[TicketsSetting]:
        on_host = isinstance(self.samples.train.inputs, HostRows)
        return NetworkModel(self.task, self.n, self.batch, self.dtype, tells_weights=True, on_host=on_host)


@dataclass(frozen=True)
class Tickets:
    """The tickets found: ``results``, a Dataset over rule, seed and kept, and the networks themselves.

    :meth:`network` returns a trained ticket as a module; :meth:`save` writes all to a file, which :meth:`load` reads.

    In the Dataset ``error`` is the mean error on the test samples at the end of the run. ``error_trained`` is the same
    error before the last pruning, ``error_pruned`` where training of the ticket alone begins, and ``error_curve`` along
    the run. ``weights`` are all parameters of the trained ticket, 0 where pruned. ``kept_by_layer`` is the share of
    weights kept in each layer. ``notices``: remarks on the results, one line each, also given as warnings.

    ``samples_law`` is the number of training samples at which, by :func:`gpsense.theory.samples_needed`, half of the
    runs recover a masked one-layer network with as many weights: compare it with the number given. Its attribute
    ``applies`` says whether the premises of that law hold for this network.

    With validation samples, ``stop_step`` is the step, counted from where training of the ticket alone begins, at which
    the recorded mean validation loss is least, and ``stop_error`` the error on the test samples there. They show how
    fast a ticket learns, and how well with early stopping (Frankle and Carbin, ICLR 2019).

    ``status`` is a code (all are in ``.status.attrs``): 2 (budget) where all steps were done, 3 (diverged), 4
    (collapsed) where a layer has no weight left.
    """

    results: xr.Dataset
    task: Task
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The median error of every rule at every share kept, and the notices."""
        errors = self.results["error"].median("seed").transpose("rule", "kept")
        shares = ", ".join(f"{share:.3g}" for share in errors["kept"].values)
        lines = [f"Tickets over {counted(self.results.sizes['seed'], 'seed')}; median error at shares kept {shares}:"]
        for rule in errors["rule"].values:
            lines.append(f"{rule}: " + ", ".join(f"{error:.3g}" for error in errors.sel(rule=rule).values))
        if not np.any(errors["kept"].values == 1.0):
            lines.append("for the error of the network without pruning add 1.0 to kept")
        see = 'see .results (with "kept_by_layer"), .network(rule, kept, seed), .save(path)'
        return "\n  ".join([*lines, *self.notices, see])

    @arguments_named
    def save(self, path: str | Path) -> None:
        """Write the results to a netCDF file, from which :meth:`load` restores the tickets.

        Raises BadInput where the folder of the file does not exist, or the path is a folder.
        """
        if not isinstance(path, str | Path) or Path(path).is_dir():
            raise BadInput("path", f"{shown(path)} is not a file", "give the name of a file to write")
        if not Path(path).parent.is_dir():
            raise BadInput("path", f"there is no folder {Path(path).parent}", "make it first, or name another")
        write_dataset(Path(path), self.results)

    @classmethod
    @arguments_named
    def load(cls, path: str | Path, make: Callable[[RandomKey], Any]) -> "Tickets":
        """The tickets in a file that :meth:`save` wrote, or in a ``results.nc``; ``make`` as given to find them.

        Raises BadInput for a file without tickets, and for a ``make`` whose network has another number of weights.
        """
        try:
            results = read_dataset(Path(path))
            count = results.sizes["weight"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                "path",
                f"{path} is not a file of tickets ({first_words(error)})",
                "give a file written by Tickets.save, or the results.nc of find_tickets",
            ) from None
        task = Task(make, ())
        shapes = jax.tree.leaves(eqx.filter_eval_shape(task.draw, jax.random.key(0), results["weights"].dtype))
        if (own := sum(leaf.size for leaf in shapes)) != count:
            problem = f"its network has {own} weights, the tickets in {path} have {count}"
            raise BadInput("make", problem, "give the make with which they were found")
        return cls(results, task, tuple(filter(None, results.attrs.get("notices", "").split("\n"))))

    @arguments_named
    def network(self, rule: str, kept: float, seed: int) -> Any:
        """The trained ticket as a module; its pruned weights are 0. Raises BadInput for a cell that does not exist.

        If the network has a state, returns the pair of module and state, in which batch norms hold the averages over
        the training samples. To predict with batch norms or dropout, use ``equinox.nn.inference_mode(module)``.
        """
        asked = {"rule": rule, "kept": kept, "seed": seed}
        for name, value in asked.items():
            known = self.results[name].values.tolist()
            if np.ndim(value) or value not in known:
                raise unknown_name(name, value, [*map(str, known)])
        cell = self.results["weights"].sel(asked)
        shapes = eqx.filter_eval_shape(self.task.draw, jax.random.key(0), cell.dtype)
        model = self.task.model(Numbers(shapes, self.task.prunable(shapes)).tree(jnp.asarray(cell.values)))
        if "averages" not in self.results:
            return model
        return model, self.task.state_of(jnp.asarray(self.results["averages"].sel(asked).values))


@arguments_named
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
    optimizer: Optimizer = "adam",
    momentum: float = 0.9,
    batch: int | None = None,
    rewind: str = "start",
    rewind_step: int = 0,
    score_rounds: int | None = None,
    prune: What | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    record_every: int | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
    memory: float = MEMORY,
) -> Tickets:
    """Prune a network by several rules to several shares of its weights, and train each ticket, for every seed.

    - ``make``: ``make(key)`` returns an Equinox module that maps one input to its outputs; if it has a state, the pair
      of module and state (``equinox.nn.make_with_state``). Batch norms average over each minibatch in training, and
      over all training samples in a test; other states, of a spectral norm or a layer of your own, are carried from
      step to step and rewound with the weights (whole numbers in them are exact up to 2^24 in float32). A module with
      dropout, or one that cannot be called without a ``key``, is given a key in training; in a test dropout is off.
      Convolutions run as matrix products on a CPU; on a GPU they need JAX 0.8 or newer.
    - ``train``, ``test``: inputs (n, ...) and targets (n, ...); whole-number inputs are converted to floating point,
      unless the network accepts only whole numbers, as an embedding does. Training inputs that are a memory map
      (``numpy.load(path, mmap_mode="r")``), or take more than half of ``memory`` bytes, stay on the host, from where
      each batch is read.
    - ``loss``: cross_entropy, squared (summed over outputs), or a function ``loss(outputs, targets)`` that returns one
      number per sample, (n,); its outputs can be a tree of arrays. Targets of cross_entropy are class numbers (n,),
      which may be stored as floats, or one-hot rows.
    - ``error``: misclassified, or any ``loss``; a function may also return booleans or whole numbers. None:
      misclassified with cross_entropy, else the loss.
    - ``rules``: iterative_magnitude (in rounds of ``steps`` steps; after each, a ``share`` of the remaining weights is
      deleted, and the others return to their values at ``rewind_step``), magnitude (prunes once, after training),
      random, snip, grasp, movement and synflow, which prune before training, in ``score_rounds`` rounds of scoring
      (None: 100 for synflow, else 1), and ``none``, which prunes nothing. ``rewind``: ``start`` is the return described
      above, ``none`` leaves the remaining weights as trained, ``redraw`` draws new ones for the ticket.
    - ``kept``: shares of the weights that are kept. For each share, every rule trains for R + 1 rounds of ``steps``
      steps, the last round on the ticket alone. R is the number of rounds after which iterative pruning has that share
      left: ``log(kept) / log(1 - share)``, rounded, at least 1, or 0 if all weights are kept.
    - ``seeds``: their number, or a list; each draws a network and its minibatches. ``batch``: samples per step; None:
      all. ``optimizer``: a name in :data:`gpsense.optimizers.OPTIMIZERS`, or a function from the rate to an optax
      optimizer; ``rate``: its step size; ``momentum``: read by momentum and nesterov only. ``memory``: bytes that the
      networks trained at the same time may take.
    - ``prune``: what can be pruned. None: all weights, but no biases, norm layers or embeddings; patterns of paths add
      to these or leave some out (``"!layers.2"``); a function of path and array, or a tree of booleans, replaces them
      (:func:`gpsense.pruning.leaves.prunable`).
    - ``validation``: further inputs and targets, on which the loss is recorded.
    - ``record_every``: how many steps lie between records of loss and error, a divisor or a multiple of ``steps``.
      None: ``steps``, so that each round has one record.
    - ``out``: a directory where chunks of cells are saved as they finish, and ``results.nc`` at the end; the same call
      resumes. ``Tickets.load(path, make)`` reads that file, or one that ``tickets.save(path)`` wrote.
    - ``progress``: whether to show a bar with the time left on standard error, with or without ``out``. None: if
      standard error is a terminal; in a notebook give True.

    The cost: each combination of rule, share kept and seed is a network of its own, and all are trained side by side,
    with the defaults 72 networks for up to 17 rounds. Small MLPs take seconds, plus compiling; convolutions take
    minutes, so try ``seeds=1`` first. ``tickets.results["kept_by_layer"].median("seed")`` is the share of each layer's
    weights kept.

    Raises BadInput for invalid arguments, and for scores that are all 0 or not finite. The results of cells that
    diverge are NaN, with their ``status``. Warns (UserWarning) where cells diverge, and where pruning leaves a layer
    without weights.

    >>> import equinox as eqx
    >>> make = lambda key: eqx.nn.MLP(4, 2, 8, 1, key=key)
    >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    >>> y = (x[:, 0] > 0).astype(int)
    >>> tickets = gpsense.find_tickets(make, (x, y), (x, y), rules=["magnitude"], kept=[1, 0.5], seeds=2, steps=50)
    >>> dict(tickets.results["error"].sizes)
    {'rule': 1, 'seed': 2, 'kept': 2}
    """
    verify_run(memory, progress)
    start_devices()
    _verify_pairs(train, test)
    given = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    samples = NetworkProblem(**{name: _samples(name, pair, memory) for name, pair in given.items()})
    shape = samples.train.inputs.shape[1:]
    for name in given:
        if (other := getattr(samples, name).inputs.shape[1:]) != shape:
            problem = f"one input of train has the shape {shape}, one of {name} {other}"
            raise BadInput(f"train and {name}", problem, "give both the shape that the network takes")
    fitted = _criterion("loss", loss)
    if error is None:
        error = "misclassified" if fitted.classes else loss
    measured = _criterion("error", error)
    samples, measured = _labelled(samples, fitted, measured)
    task = Task(make, shape, fitted.function, measured.function, prune)
    whole = all(np.asarray(inputs).dtype.kind in "iu" for inputs, _ in given.values())
    try:
        task, samples = _fitting(task, samples, {"loss": fitted, "error": measured}, whole)
        if isinstance(samples.train.inputs, HostRows):
            _verify_on_host(task, batch)
        system = TicketSearch(
            task=task,
            samples=samples,
            n=len(samples.train.targets),
            dtype=str(samples.train.used.dtype),
            optimizer=optimizer,
            round_steps=steps,
            rewind=rewind,
            rewind_step=rewind_step,
            score_rounds=score_rounds,
            batch=batch,
        )
        axes = Axis("rule", _listed(rules)), Axis("kept", _listed(kept))
        numbers = {"share": share, "rate": rate, "momentum": momentum}
        settings = [TicketsSetting(kept=each, **numbers) for each in axes[1].values]
        if None in (shares := [each.kept for each in settings]):
            raise BadInput("kept", "None is not a number", "use a number above 0 and at most 1")
        rounds = max(rounds_to(each, share) for each in shares if each is not None)
        every = steps if record_every is None else record_every
        if rounds * steps > MOST_STEPS:
            problem = f"{shown(rounds)} rounds of {steps} steps are more than {MOST_STEPS}"
            raise BadInput("steps", problem, "give fewer steps, a larger share or a larger kept")
        grid = Grid(system, Schedule(rounds * steps, steps, every), seeds, axes, numbers)
        make_plan(grid, memory)  # raises where memory is too small, before weights are scored
        for rule in axes[0].values:
            _verify_rule(replace(system, rule=rule), grid.seeds.values)
        results = _with_law(_stopped(run_whole(grid, memory, out, progress)), system.model, fitted)
        notices = _notices(results)
        for notice in notices:
            warnings.warn(notice, stacklevel=3)  # names the line of the call, past the wrapper that checks arguments
        return Tickets(results.assign_attrs(notices="\n".join(notices)), task, notices)
    except BadInput as refusal:
        raise BadInput(ARGUMENTS.get(refusal.field, refusal.field), refusal.problem, refusal.remedy) from None


class _Named:
    """An annotation that ``help`` prints as the given name."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _readable(function: Any) -> None:
    """Let ``help`` print types by name, not as the unions that they stand for."""
    pair = "tuple[ArrayLike, ArrayLike]"
    named = {"make": "Callable[[Key], Module]", "train": pair, "test": pair, "validation": f"{pair} | None"}
    shown = {name: _Named(text) for name, text in named.items()}
    given = inspect.signature(function)
    parameters = [each.replace(annotation=shown.get(n, each.annotation)) for n, each in given.parameters.items()]
    function.__signature__ = given.replace(parameters=parameters)


_readable(find_tickets)


def _listed(given: Any) -> tuple[Any, ...]:
    """The given values as a tuple, or a single one as a tuple of one."""
    one = isinstance(given, str) or not np.iterable(given)
    return (given,) if one else tuple(given)


def _verify_pairs(train: Any, test: Any) -> None:
    """Raises BadInput where the inputs are given as one pair and the targets as the other."""
    try:
        (x, x_test), (y, y_test) = (map(np.shape, pair) for pair in (train, test))
    except (TypeError, ValueError):  # reported when they are read
        return
    if len(x) > 1 and len(y) == 1 and x[1:] == x_test[1:] and (x[0], x_test[0]) == (y[0], *y_test):
        problem = "the first pair holds inputs and the second targets"
        raise BadInput("train and test", problem, "give (x_train, y_train), (x_test, y_test)")


def _samples(name: str, pair: tuple[ArrayLike, ArrayLike], memory: float) -> Samples:
    """The checked inputs, in the default precision, and targets of a pair; training inputs may stay on the host."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        many = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise BadInput(name, f"a {type(pair).__name__}{many} is not a pair", "give inputs and targets, (x, y)")
    for part, given in zip(("inputs", "targets"), pair, strict=True):
        if np.ma.is_masked(given):
            raise _unknown(name, part, np.ma.getmaskarray(np.ma.asarray(given)), "masked")
    inputs = real_array(name, pair[0], "inputs hold")
    try:
        targets = real_array(name, pair[1], "targets hold")
    except BadInput as refusal:
        if "text" not in refusal.problem:
            raise
        remedy = "number the classes from 0, as numpy.unique(labels, return_inverse=True)[1] does"
        raise BadInput(name, refusal.problem, remedy) from None
    if inputs.ndim < 2:
        problem = f"inputs have the shape {inputs.shape}, with no axis for the features of one input"
        raise BadInput(name, problem, "give an array (n, ...) of n inputs, such as x[:, None]")
    if targets.ndim < 1 or len(inputs) != len(targets) or not len(inputs):
        problem = f"inputs have the shape {inputs.shape}, targets {targets.shape}"
        raise BadInput(name, problem, "give inputs (n, ...) and targets (n, ...) with the same n > 0")
    dtype = jnp.result_type(float)
    rows = HostRows(inputs, dtype)
    kind = dtype if targets.dtype.kind == "f" else jnp.dtype("int32")
    for part, array, blocks, type_ in (("inputs", inputs, rows.blocks(), dtype), ("targets", targets, [targets], kind)):
        if not all(_fits(block, type_).all() for block in blocks):
            what = "not finite" if not np.isfinite(array).all() else f"too large for {type_}"
            raise _unknown(name, part, ~_fits(array, type_), what)
    large = isinstance(pair[0], np.memmap) or inputs.size * dtype.itemsize > memory / 2
    kept: Any = rows if name == "train" and large else jnp.asarray(inputs, dtype)
    return Samples(kept, jnp.asarray(targets, kind), jnp.ones((len(inputs),), dtype))


def _fits(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Which numbers of an array are finite and stay so, without overflow, when converted to a type."""
    if np.issubdtype(dtype, np.integer):
        return np.abs(array.astype(float)) <= np.iinfo(dtype).max
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype(dtype))


def _verify_on_host(task: Task, batch: int | None) -> None:
    """Raises BadInput where training inputs that stay on the host would be needed all at once."""
    if batch is None:
        raise BadInput(
            "batch", "the training inputs stay on the host and are read in batches", "give a size, e.g. batch=100"
        )
    if task.stateful:
        problem = "the network's state is computed from all training inputs at once, but these stay on the host"
        remedy = "give inputs as an array (no memory map) and a memory of at least twice its bytes"
        raise BadInput("make", problem, f"use layers without state, or {remedy}")


def _unknown(name: str, part: str, where: np.ndarray, what: str) -> BadInput:
    """The error for numbers that are masked or not finite."""
    row = int(np.argwhere(where)[0, 0])
    problem = f"{int(where.sum())} of {where.size} {part} are {what}, the first in row {row}"
    return BadInput(name, problem, "leave those rows out or fill them in")


def _labelled(samples: NetworkProblem, fitted: Criterion, measured: Criterion) -> tuple[NetworkProblem, Criterion]:
    """The samples and the error; if the loss needs class numbers, the targets become class numbers.

    If only the error needs class numbers and targets are rows, the error takes the largest of each row.
    """
    if fitted.classes:
        parts = {name: part._replace(targets=_labels(name, part.targets)) for name, part in _parts(samples).items()}
        return NetworkProblem(**parts), measured
    if measured.classes and all(part.targets.ndim == 2 for part in _parts(samples).values()):
        for name, part in _parts(samples).items():
            _labels(name, part.targets)
        of_labels = measured.function
        return samples, Criterion(lambda outputs, rows: of_labels(outputs, jnp.argmax(rows, axis=-1)))
    return samples, measured


def _parts(samples: NetworkProblem) -> dict[str, Samples]:
    """The sets of samples by name; validation only where it was given."""
    return {name: part for name, part in samples._asdict().items() if part is not None}


def _stopped(results: xr.Dataset) -> xr.Dataset:
    """The results with ``stop_step`` and ``stop_error`` added where a loss on validation samples was recorded."""
    if "validation_curve" not in results:
        return results
    alone = results.isel(step=np.flatnonzero(results["phase"].values == "fine_tune"))
    curve = alone["validation_curve"].where(np.isfinite(alone["validation_curve"]), np.inf)
    best, lost = curve.argmin("step"), (curve == np.inf).min("step").astype(bool)
    steps = alone["step"].isel(step=best).drop_vars(["step", "phase"]) - results.attrs["train_steps"]
    error = alone["error_curve"].isel(step=best).drop_vars(["step", "phase"])
    told = {"stop_step": "steps of the ticket alone until the least loss on the validation samples"}
    told["stop_error"] = "error on the test samples at that step"
    for name, values in (("stop_step", steps), ("stop_error", error)):
        results[name] = values.where(~lost).assign_attrs(long_name=told[name], units="1")
    return results


def _with_law(results: xr.Dataset, model: NetworkModel[TicketsSetting], loss: Criterion) -> xr.Dataset:
    """The results with ``samples_law`` added; its attribute ``applies`` says whether the law's premises hold."""
    needed = results["rank"] * float(samples_needed(1.0, 1.0))
    reasons = []
    if loss.function is not CRITERIA["squared"].function:
        reasons.append("the loss is not the squared one")
    if (count := len(model.layers)) > 1:
        reasons.append(f"{count} arrays are pruned, not one layer of neurons")
    trained = model.shapes.arrays if isinstance(model.shapes, Carried) else model.shapes
    if others := len(jax.tree.leaves(trained)) - count:
        reasons.append(f"{others} more {'array is' if others == 1 else 'arrays are'} trained, such as biases")
    premises = "inputs are Gaussian and targets come from such a network"
    applies = f"no: {'; '.join(reasons)}" if reasons else f"yes, if {premises}"
    words = "samples at which half of the runs recover a masked one-layer network with as many weights, 1.2 per weight"
    results["samples_law"] = needed.assign_attrs(long_name=words, units="samples", applies=applies)
    return results


def _labels(name: str, targets: Targets) -> Targets:
    """Class numbers (n,) from class numbers of any type, (n,) or (n, 1), or from one-hot rows (n, classes)."""
    given = np.asarray(targets)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim == 2 and np.isin(given, (0, 1)).all() and (given.sum(1) == 1).all():
        given = given.argmax(1)
    if given.ndim != 1 or (given != np.round(given)).any():
        problem = f"targets of shape {given.shape} are not class numbers, one per row"
        raise BadInput(name, problem, "give whole numbers (n,) or one-hot rows (n, classes)")
    return jnp.asarray(given, jnp.int32)


def _fitting(
    task: Task, samples: NetworkProblem, criteria: Mapping[str, Criterion], whole: bool
) -> tuple[Task, NetworkProblem]:
    """The task and samples if they fit one another; inputs become int32 if the network accepts nothing else."""
    try:
        for name, part in _parts(samples).items():
            _try(name, task, part, criteria)
    except BadInput as refusal:
        if not whole or refusal.field != "make":
            raise
        try:
            parts = {n: part._replace(inputs=part.inputs.astype(jnp.int32)) for n, part in _parts(samples).items()}
            return _fitting(replace(task, whole=True), NetworkProblem(**parts), criteria, False)
        except BadInput:
            raise refusal from None
    return task, samples


def _verify_rule(system: TicketSearch, seeds: Sequence[int]) -> None:
    """Raises BadInput where, for some seed, scores taken before training are not finite or all 0."""
    rule, model, problem = system.learner.rule, system.model, system.samples
    if rule.at != "start" or rule.score is None:
        return
    score, can = rule.score, model.prunable

    def seen(keys: Keys) -> Any:
        start_key, mask_key = jax.random.split(keys.start)
        params = model.start(problem, TicketsSetting(), None, start_key)
        loss = lambda tree: model.loss(problem, tree)  # noqa: E731
        scores = score(params, None, loss, mask_key, model.flow, can)
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in _only(scores, can)]
        nonzero = [[jnp.any(leaf != 0) for leaf in _only(tree, can)] for tree in (scores, params)]
        return jnp.stack(finite), *map(jnp.stack, nonzero)

    finite, scored, started = map(np.asarray, jax.jit(lambda keys: jax.lax.map(seen, keys))(keys_of(np.array(seeds))))
    named = lambda bad: ", ".join(name for name, is_bad in zip(model.layers, bad, strict=True) if is_bad)  # noqa: E731
    for seed, is_finite, is_scored, is_started in zip(seeds, finite, scored, started, strict=True):
        if not is_finite.all():
            problem_seen = f"scores by {system.rule} are not finite in {named(~is_finite)} with seed {seed}"
            raise BadInput("rules", problem_seen, "use smaller initial weights, float64 or another rule")
        if not is_scored.any():
            why = "" if is_started.all() else f" ({named(~is_started)} starts at 0)"
            remedy = "use other initial weights or another rule, or exclude layers with prune="
            raise BadInput("rules", f"with {system.rule} and seed {seed} every weight scores 0{why}", remedy)


def _only(tree: Any, can: Any) -> list[Any]:
    return [leaf for leaf, chosen in zip(jax.tree.leaves(tree), jax.tree.leaves(can), strict=True) if chosen]


def _notices(results: xr.Dataset) -> tuple[str, ...]:
    """Lines that say how many cells diverged, and in how many a rule left which layers without weights."""
    found = [f"{words}: lower the rate"] if (words := diverged_words(results)) else []
    for rule, cells in results["kept_by_layer"].groupby("rule") if "rule" in results.dims else ():
        gone = cells == 0
        count = int(gone.any("layer").sum())
        if count:
            layers = gone.layer.values[gone.any([dim for dim in gone.dims if dim != "layer"]).values]
            total = gone.sizes["seed"] * gone.sizes["kept"]
            what = f"rule {rule} left no weight of {', '.join(layers)} in {count} of {total} cells"
            found.append(f"layer collapse: {what}")
    return tuple(found)


def _criterion(field: str, given: str | Callable[[Outputs, Targets], Values]) -> Criterion:
    """The loss or error of this name, or of a given function; an error of booleans or whole numbers as floats."""
    if callable(given):
        return Criterion(_as_floats(given) if field == "error" else given)
    known = [name for name, each in CRITERIA.items() if each.slope or field == "error"]
    if given not in known:
        raise unknown_name(field, given, known)
    return CRITERIA[given]


def _as_floats(function: Callable[[Outputs, Targets], Values]) -> Callable[[Outputs, Targets], Values]:
    """The function, with arrays of booleans or whole numbers that it returns converted to floating point."""

    def converted(outputs: Outputs, targets: Targets) -> Any:
        given: Any = function(outputs, targets)
        counts = isinstance(given, np.ndarray | jax.Array) and given.dtype.kind in "biu"
        return jnp.asarray(given, jnp.result_type(float)) if counts else given

    return converted


def _kind_words(dtype: Any) -> str:
    """What numbers of a type that is not floating point are called in an error."""
    words = {jnp.complexfloating: "complex numbers", jnp.bool_: "booleans", jax.dtypes.extended: "random keys"}
    return next((each for kind, each in words.items() if jnp.issubdtype(dtype, kind)), "whole numbers")


def _try(name: str, task: Task, samples: Samples, criteria: Mapping[str, Criterion]) -> None:
    """Raises BadInput where the shapes and types of network, data, loss and error do not fit one another."""
    targets = samples.targets
    try:
        key = jax.random.key(0) if task.random else None
        params = eqx.filter_eval_shape(task.draw, jax.random.key(0), samples.used.dtype)
        inputs = jax.ShapeDtypeStruct(samples.inputs.shape, samples.inputs.dtype)
        outputs = eqx.filter_eval_shape(task.outputs, params, inputs, key)
        eqx.filter_eval_shape(task.tested, params, inputs, inputs)
    except BadInput:
        raise
    except Exception as error:  # a network that is not ours can fail in any way
        raise _unrunnable(task, error) from error
    leaves = jax.tree.leaves(outputs)
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        problem = f"its network returns {_kind_words(leaves[0].dtype) if leaves else 'None'}"
        raise BadInput("make", problem, "return outputs such as logits, before argmax")
    shown = " and ".join(str(leaf.shape) for leaf in jax.tree.leaves(outputs))
    for field, criterion in criteria.items():
        labels = _labels(name, targets) if criterion.classes else targets
        try:
            given: Any = eqx.filter_eval_shape(criterion.function, outputs, labels)
        except BadInput as refusal:
            raise BadInput(field, f"{name}'s {refusal.field} have the {refusal.problem}", refusal.remedy) from None
        except Exception as error:  # a user's loss can fail in any way
            problem = f"it fails on outputs of shape {shown} ({first_words(error)})"
            remedy = TRACED if needs_value(error) else f"make it fit {name}'s targets of shape {targets.shape}"
            raise BadInput(field, problem, remedy) from error
        shape = getattr(given, "shape", () if type(given) in (int, float) else None)
        if shape != samples.used.shape:
            gives = f"gives {kind_of(given)}" if shape is None else f"gives shape {shape}"
            raise BadInput(field, f"{gives} for {len(samples.used)} rows", "return one number per row")
        if not jnp.issubdtype(given.dtype, jnp.floating):
            lacking = ", which have no gradient" if field == "loss" else ""
            raise BadInput(field, f"gives {_kind_words(given.dtype)}{lacking}", "return floating-point numbers")
        if criterion.classes:
            least, most = int(labels.min()), int(labels.max())
            classes = jax.tree.leaves(outputs)[0].shape[-1]
            if least < 0 or most >= classes:
                problem = f"labels from {least} to {most} for {classes} outputs"
                raise BadInput(name, problem, "number the classes from 0, with one output of the network for each")


def _unrunnable(task: Task, error: Exception) -> BadInput:
    """The error for a network that cannot be run, with the cause and remedy that its exception suggests."""
    first = first_words(error)
    if needs_value(error):
        return BadInput("make", f"its network cannot be traced ({first})", TRACED)
    if any(words in first for words in ("pytree structure", "Mismatch custom node data")):  # as JAX's versions put it
        problem = "the structure of its network differs from call to call"
        return BadInput("make", problem, "draw its weights from key, and nothing else at random")
    if "key" in first:
        remedy = "let it take key=None and pass it to its layers, or set inference=True"
        return BadInput("make", f"the network needs a random key when called ({first})", remedy)
    if "state" in first:
        remedy = "return equinox.nn.make_with_state(Network)(key), and take and return the state"
        return BadInput("make", f"the network needs a state when called ({first})", remedy)
    problem = f"its network cannot be run on one input of shape {task.shape} ({first})"
    return BadInput(
        "make", problem, "make a network for inputs of that shape, or give inputs of the shape that it takes"
    )
