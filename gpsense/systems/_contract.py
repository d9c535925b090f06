"""What a system offers to the pipeline and the grid: a problem, and a learner with the phases of a cell.

*draw a problem -> start -> train -> prune -> start fine-tuning -> fine-tune -> measure.* A :class:`System` is a frozen
dataclass of static fields (shapes, counts, names), with ``Data`` (traced numbers that change the data) and ``Setting``
(traced numbers that do not). Its :class:`Learner` runs a cell once the problem is drawn; a baseline is another learner.
Every function is pure.
"""

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool

from gpsense._types import Integer, RandomKey, Scalar
from gpsense.descent import Descent
from gpsense.errors import BadInput
from gpsense.fields import Field, check_fields, declared, nearest
from gpsense.keys import Keys

DataT = TypeVar("DataT")
SettingT = TypeVar("SettingT")
ProblemT = TypeVar("ProblemT")
StateT = TypeVar("StateT", bound="State")
PrunedT = TypeVar("PrunedT", bound="Decision")
TunedT = TypeVar("TunedT", bound="State")
Measures = dict[str, Any]
PRECISIONS = ("float32", "float64")


class Cost(eqx.Module):
    """What one cell costs in operations and in memory.

    ``flops``: operations of a training step; ``once``: operations outside the steps, for drawing and pruning, say;
    ``products``: whether both count matrix products only. Memory in bytes: ``problem_bytes`` is what the problem takes,
    ``sample_bytes`` what drawing it takes, ``cell_bytes`` what a running cell takes, ``kept_bytes`` what its state
    takes at other times, ``result_bytes`` what its measures take (0: the engine estimates it). ``axes``: name and
    number of trailing axes of each measure, if the measures were traced; else empty.
    """

    flops: float = eqx.field(static=True)
    problem_bytes: int = eqx.field(static=True)
    sample_bytes: int = eqx.field(static=True)
    cell_bytes: int = eqx.field(static=True)
    kept_bytes: int = eqx.field(static=True)
    once: float = eqx.field(static=True, default=0.0)
    result_bytes: int = eqx.field(static=True, default=0)
    products: bool = eqx.field(static=True, default=True)
    axes: tuple[tuple[str, int], ...] = eqx.field(static=True, default=())


class Measure(NamedTuple):
    """A measure of a cell: ``words`` that say what it is, its unit ``units``, and its trailing axes' names ``dims``.

    >>> gpsense.Measure("largest weight", units="1").words
    'largest weight'
    """

    words: str
    units: str = "1"
    dims: tuple[str, ...] = ()


class State(Protocol):
    """What the engine reads of a state, in either phase: ``status`` (a code of gpsense.descent) and ``steps``."""

    @property
    def status(self) -> Integer: ...

    @property
    def steps(self) -> Integer: ...


class Decision(Protocol):
    """What the engine reads of a pruning decision: ``mask``, True for the prunable parts that are kept."""

    @property
    def mask(self) -> Bool[Array, " parts"]: ...


class Descending(eqx.Module):
    """A state with the status and steps of its descent ``run``; subclasses add what else a learner carries."""

    run: Descent

    @property
    def status(self) -> Integer:
        return self.run.status

    @property
    def steps(self) -> Integer:
        return self.run.steps


class Learner(ABC, Generic[ProblemT, SettingT, StateT, PrunedT, TunedT]):
    """The phases of a cell after its problem is drawn; its state is a ``StateT`` until pruning, then a ``TunedT``."""

    @property
    def stride(self) -> int:
        """The number of steps between checks; the status of a state changes only at a check."""
        return 10

    def lanes(self, problem: ProblemT) -> bool:
        """Whether cells that share this problem run faster batched along the last axis (:mod:`gpsense._lanes`)."""
        return False

    def donates(self, width: int) -> bool:
        """Whether states at the start of fine-tuning, at this width, have the shapes of those at the end of training.

        The memory of the trained state is then reused.
        """
        return False

    def shared(self, settings: Sequence[SettingT]) -> Sequence[tuple[int, int]]:
        """For each setting, the index of its leader, whose first steps it shares, and the number of these steps.

        In a chunk that holds both, only the leader is trained: after that many steps (or at the end of training, if
        that is earlier) :meth:`branch` makes the setting's state from the leader's; until then, their records are the
        same. A setting that is its own leader is trained itself, as all are by default.
        """
        return [(place, 0) for place in range(len(settings))]

    def branch(self, problem: ProblemT, setting: SettingT, state: StateT) -> StateT:
        """The state in which a setting's training ends, made from the ``state`` of its leader (see :meth:`shared`)."""
        return state

    @abstractmethod
    def start(self, problem: ProblemT, setting: SettingT, keys: Keys) -> StateT:
        """The state that training starts from."""

    @abstractmethod
    def train(self, problem: ProblemT, setting: SettingT, state: StateT, n_steps: int) -> StateT:
        """Up to ``n_steps`` more steps; a state that has stopped is returned unchanged."""

    @abstractmethod
    def prune(self, problem: ProblemT, setting: SettingT, state: StateT) -> PrunedT:
        """The mask of the parts to keep, with what is measured at pruning."""

    @abstractmethod
    def start_fine_tuning(
        self, problem: ProblemT, setting: SettingT, state: StateT, pruned: PrunedT, width: int
    ) -> TunedT:
        """The state that fine-tuning starts from, with room for ``width`` parts, at least the number kept.

        Padding must not affect results.
        """

    @abstractmethod
    def fine_tune(self, problem: ProblemT, setting: SettingT, state: TunedT, n_steps: int) -> TunedT:
        """As :meth:`train`, for fine-tuning the parts that pruning kept."""

    def trains_as_it_tunes(self, n_steps: int) -> bool:
        """Whether :meth:`train` and :meth:`fine_tune`, with this number of steps, change a state in the same way.

        The compiled program of fine-tuning is then used for training, too; both phases must have states of one type.
        """
        return False

    @abstractmethod
    def record(self, problem: ProblemT, setting: SettingT, state: StateT | TunedT) -> dict[str, Scalar]:
        """The loss and error of a state of either phase, as ``loss_curve`` and ``error_curve``, and further numbers.

        Further numbers named ``*_curve`` are recorded along the run, all others at the end of fine-tuning.
        """

    @abstractmethod
    def measure(self, problem: ProblemT, setting: SettingT, state: TunedT, pruned: PrunedT) -> Measures:
        """Further measures of a finished cell, by name: ``rank`` (parts kept) and others.

        The engine takes ``error_trained`` and ``loss_trained`` (at the end of training), ``error_pruned`` (where
        fine-tuning starts), ``error`` and ``loss`` from the records, ``status`` and ``steps`` from the states. A cell
        whose loss or error is not finite has diverged, and its measures are NaN.
        """


class Evaluator(ABC, Generic[ProblemT, SettingT]):
    """A learner with a single phase, which computes all measures of a cell from its problem, setting and keys."""

    @abstractmethod
    def evaluate(self, problem: ProblemT, setting: SettingT, keys: Keys) -> Measures:
        """All measures of a cell by name, ``status`` among them."""


@dataclass(frozen=True, kw_only=True)
class System(ABC, Generic[DataT, SettingT, ProblemT]):
    """One kind of experiment; its fields are static and decide what is compiled.

    Required: ``name``, ``Data``, ``Setting``, :meth:`draw` and :attr:`learner`. ``Data`` and ``Setting`` are classes of
    traced numbers, derived from :class:`gpsense.fields.Traced`: those of ``Data``, such as the noise, change the
    problem drawn; those of ``Setting``, such as the penalty, do not, so that many settings are run on one problem. A
    size that is a field here and in ``Data`` or ``Setting`` is traced where :meth:`traceable` says so. ``measures``
    describes the system's own measures, beside the common ones of :data:`gpsense.grid.results.MEASURES`; ``table``
    names the measures in the table of a run; ``steps``: default numbers of training and of fine-tuning steps, None for
    a system without steps. ``revision`` belongs to a run's identity: raise it when a default or a formula changes what
    results mean. ``own_code``: whether hidden fields hold a user's functions and data; their traced operations then
    belong to the identity, too. Fields are checked at construction; BadInput names the field.

    >>> system = gpsense.Sensing(dim=8, rank=2, n=100)
    >>> isinstance(system, gpsense.System), system.Setting(penalty=0.2).penalty
    (True, 0.2)
    """

    name: ClassVar[str]
    Data: ClassVar[type]
    Setting: ClassVar[type]
    measures: ClassVar[Mapping[str, Measure]] = {}
    table: ClassVar[tuple[str, ...]] = ("rank", "error_trained", "error_pruned", "error")
    steps: ClassVar[tuple[int, int] | None] = (1000, 300)
    revision: ClassVar[int | str] = 1
    own_code: ClassVar[bool] = False

    dtype: Annotated[
        str, Field("run", "float32 or float64", choices=PRECISIONS, key="precision", axis=False, label="precision")
    ] = "float32"

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        cls.check_class()
        known, inside = declared(cls), {**declared(cls.Data, "data"), **declared(cls.Setting, "setting")}
        for name in fields:
            if name not in known:
                near = nearest(name, known)
                remedy = "give it to a Grid, as an Axis or in constants" if name in inside else near or "leave it out"
                raise BadInput(name, f"system {cls.name} has no such static field", remedy)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_fields(self)
        self.check()

    @classmethod
    def check_class(cls) -> None:
        """Raises BadInput, naming the class, where it lacks a required attribute or method."""
        declares = lambda base: inspect.get_annotations(base).items()  # noqa: E731
        values = (name for base in cls.__mro__ for name, kind in declares(base) if "ClassVar" in str(kind))
        missing = [*sorted(cls.__abstractmethods__), *(name for name in values if not hasattr(cls, name))]
        if missing:
            near = difflib.get_close_matches(missing[0], [name for name in vars(cls) if name[0] != "_"], 1, 0.6)
            remedy = f"rename its {near[0]}, or add it" if near else "add it to the class"
            raise BadInput(cls.__name__, f"does not define {missing[0]}", remedy)
        for name in ("Data", "Setting"):
            if not is_dataclass(getattr(cls, name)):
                remedy = "derive it from gpsense.fields.Traced"
                raise BadInput(cls.__name__, f"has a {name} that is not a class of fields", remedy)

    @abstractmethod
    def draw(self, data: DataT, key: RandomKey) -> ProblemT:
        """Draw a problem: truth, data, noise."""

    @property
    @abstractmethod
    def learner(self) -> Learner[ProblemT, SettingT, Any, Any, Any] | Evaluator[ProblemT, SettingT]:
        """How a cell is run once its problem is drawn."""

    def check(self) -> None:
        """Raises BadInput, naming the field, for static fields that do not fit together."""

    def check_data(self, data: DataT) -> None:
        """Raises BadInput where the numbers of ``data`` do not fit together, or do not fit the static fields."""

    def check_schedule(self, train_steps: int, record_every: int, settings: Sequence[SettingT]) -> None:
        """Raises BadInput where steps or settings do not fit the static fields."""

    def implied(self, given: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Static fields, by name, whose values follow from those ``given`` to a grid."""
        return {}

    def resolve(self, evaluations: int) -> Self:
        """The system with all automatic choices made, for ``evaluations`` (at least 1) of the loss on each problem."""
        return self

    def traceable(self, sizes: Mapping[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """The names of the ``sizes`` that may be traced at little extra cost; this system's fields bound the values."""
        return frozenset()

    def cost(self) -> Cost | None:
        """The cost of a cell of a resolved system; None: it is estimated from the traced functions."""
        return None

    def labels(self) -> Mapping[str, Sequence[str]]:
        """Coordinate labels for the trailing axes of measures, by the name of the axis."""
        return {}

    def describe(self) -> str:
        """A one-line description of a resolved system."""
        return self.name

    @property
    def train_precision(self) -> str:
        """The precision of matrix products while training."""
        return "highest"


AnySystem = System[Any, Any, Any]
