"""What a system offers to the pipeline and the grid: a problem, and a learner with the phases of a cell.

*draw a problem -> start -> train -> prune -> start fine-tuning -> fine-tune -> measure.* A :class:`System` is a frozen
dataclass of static fields (shapes, counts, names), with ``Data`` (traced numbers that change the data) and ``Setting``
(traced numbers that do not). How a cell is run once its problem is drawn is its :class:`Learner`'s, so that a baseline
is a learner of its own. Every function is pure.
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
    """What one cell costs: flops a training step, bytes of a problem, bytes of a cell being trained or kept.

    ``sample_bytes`` are needed while a problem is drawn; ``once`` are flops beside the steps: drawing, pruning;
    ``result_bytes`` those of a cell's measures, 0 where the engine's own estimate will do; ``products``: flops are
    those of matrix products, else of any operation; ``axes`` of every measure, beside those of the grid, where they
    were traced.
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
    """A measure of a cell: what it is, its unit, and the names of its trailing axes.

    >>> gpsense.Measure("largest weight", units="1").words
    'largest weight'
    """

    words: str
    units: str = "1"
    dims: tuple[str, ...] = ()


class State(Protocol):
    """What the engine reads of a state of either phase: ``status`` (a code of gpsense.descent) and ``steps``."""

    @property
    def status(self) -> Integer: ...

    @property
    def steps(self) -> Integer: ...


class Decision(Protocol):
    """What the engine reads of what pruning decided: ``mask``, True for the prunable parts that stay."""

    @property
    def mask(self) -> Bool[Array, " parts"]: ...


class Descending(eqx.Module):
    """A state whose status and steps are those of one descent; a learner adds what else it carries."""

    run: Descent

    @property
    def status(self) -> Integer:
        return self.run.status

    @property
    def steps(self) -> Integer:
        return self.run.steps


class Learner(ABC, Generic[ProblemT, SettingT, StateT, PrunedT, TunedT]):
    """The phases of a cell after its problem is drawn; ``StateT`` is carried in training, ``TunedT`` after pruning."""

    @property
    def stride(self) -> int:
        """Steps between checks: the status of a state changes after a multiple of them."""
        return 10

    def lanes(self, problem: ProblemT) -> bool:
        """Whether cells that share this problem are best held along the last axis (:mod:`gpsense._lanes`)."""
        return False

    def donates(self, width: int) -> bool:
        """Whether fine-tuning at this width begins with arrays of the shapes that training ended with.

        The memory of the trained state is then used again.
        """
        return False

    def shared(self, settings: Sequence[SettingT]) -> Sequence[tuple[int, int]]:
        """Of every setting the place of the one whose training begins as its own does, and the steps of its own.

        Such a setting is not trained where it lies in a chunk with that one: its state is :meth:`branch` of the other's
        after those steps, at the end of training if there are more; its records until then are the other's. A setting
        that names itself is trained, as all are by default.
        """
        return [(place, 0) for place in range(len(settings))]

    def branch(self, problem: ProblemT, setting: SettingT, state: StateT) -> StateT:
        """The state of a setting, given that of the one whose training it shares, where its own ends."""
        return state

    @abstractmethod
    def start(self, problem: ProblemT, setting: SettingT, keys: Keys) -> StateT:
        """The state training starts from."""

    @abstractmethod
    def train(self, problem: ProblemT, setting: SettingT, state: StateT, n_steps: int) -> StateT:
        """Up to ``n_steps`` more steps; a state that has stopped is returned unchanged."""

    @abstractmethod
    def prune(self, problem: ProblemT, setting: SettingT, state: StateT) -> PrunedT:
        """What pruning decides and measures."""

    @abstractmethod
    def start_fine_tuning(
        self, problem: ProblemT, setting: SettingT, state: StateT, pruned: PrunedT, width: int
    ) -> TunedT:
        """The state fine-tuning starts from, with room for ``width`` parts: at least as many as are kept.

        Padding must not affect results.
        """

    @abstractmethod
    def fine_tune(self, problem: ProblemT, setting: SettingT, state: TunedT, n_steps: int) -> TunedT:
        """As :meth:`train`, of what pruning left."""

    def trains_as_it_tunes(self, n_steps: int) -> bool:
        """Whether :meth:`train` of so many steps does to a state what :meth:`fine_tune` does.

        The program of fine-tuning then trains, too; states of both phases must be of one type.
        """
        return False

    @abstractmethod
    def record(self, problem: ProblemT, setting: SettingT, state: StateT | TunedT) -> dict[str, Scalar]:
        """``loss_curve`` and ``error_curve`` of a state of either phase as it stands.

        Further numbers are kept as they are at the end of fine-tuning.
        """

    @abstractmethod
    def measure(self, problem: ProblemT, setting: SettingT, state: TunedT, pruned: PrunedT) -> Measures:
        """What else is measured of a finished cell, by name: ``rank`` (parts kept) and more.

        From the records follow ``error_trained`` and ``loss_trained`` (at the end of training), ``error_pruned`` (where
        fine-tuning starts), ``error`` and ``loss``; from the states ``status`` and ``steps`` of both phases. A cell
        whose loss or error is not finite has diverged, and its measures are NaN.
        """


class Evaluator(ABC, Generic[ProblemT, SettingT]):
    """A learner of one phase: the measures of a cell from its problem, setting and keys, at once."""

    @abstractmethod
    def evaluate(self, problem: ProblemT, setting: SettingT, keys: Keys) -> Measures:
        """All measures of a cell by name, ``status`` among them."""


@dataclass(frozen=True, kw_only=True)
class System(ABC, Generic[DataT, SettingT, ProblemT]):
    """One kind of experiment; its fields are static and decide what is compiled.

    Required: ``name``, ``Data``, ``Setting``, :meth:`draw` and :attr:`learner`. A size that stands here and in ``Data``
    or ``Setting`` is traced where :meth:`traceable` says so. ``measures`` describes measures that are the system's own,
    beside the common ones of :data:`gpsense.grid.results.MEASURES`; ``table`` names those in the table of a run;
    ``steps`` are the default numbers of those of training and of fine-tuning, None for a system that takes none.
    ``revision`` belongs to a run's identity: raise it when a default or a formula changes its meaning. ``own_code``:
    hidden fields hold a user's functions and data, and the operations that these trace to belong to the identity, too.
    Fields are checked at construction; BadInput names the field.

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
        """Raise BadInput, naming the class, where it lacks what every class of its kind defines."""
        declares = lambda base: inspect.get_annotations(base).items()  # noqa: E731
        values = (name for base in cls.__mro__ for name, kind in declares(base) if "ClassVar" in str(kind))
        missing = [*sorted(cls.__abstractmethods__), *(name for name in values if not hasattr(cls, name))]
        if missing:
            near = difflib.get_close_matches(missing[0], [name for name in vars(cls) if name[0] != "_"], 1, 0.6)
            remedy = f"rename its {near[0]}, or add it" if near else "add it to the class"
            raise BadInput(cls.__name__, f"does not define {missing[0]}", remedy)
        for name in ("Data", "Setting"):
            if not is_dataclass(getattr(cls, name)):
                remedy = "derive that from gpsense.fields.Traced"
                raise BadInput(cls.__name__, f"has a {name} that is no class of fields", remedy)

    @abstractmethod
    def draw(self, data: DataT, key: RandomKey) -> ProblemT:
        """Draw a problem: truth, data, noise."""

    @property
    @abstractmethod
    def learner(self) -> Learner[ProblemT, SettingT, Any, Any, Any] | Evaluator[ProblemT, SettingT]:
        """How a cell is run once its problem is drawn."""

    def check(self) -> None:
        """Raise BadInput, naming the field, for static fields that do not go together."""

    def check_data(self, data: DataT) -> None:
        """Raise BadInput where the numbers of ``data`` do not go together, or not with the static fields."""

    def check_schedule(self, train_steps: int, record_every: int, settings: Sequence[SettingT]) -> None:
        """Raise BadInput where steps or settings do not fit the static fields."""

    def implied(self, given: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Static fields that follow from the values a grid is given, by name."""
        return {}

    def resolve(self, evaluations: int) -> Self:
        """The system with every automatic choice made; a problem's loss is evaluated so often (at least once)."""
        return self

    def traceable(self, sizes: Mapping[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Which of these sizes may be traced below the bounds in this system: where that costs little more, or less."""
        return frozenset()

    def cost(self) -> Cost | None:
        """Flops and bytes of a resolved system; None: they are read off its traced functions."""
        return None

    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names along the trailing axes of measures, by axis: coordinates of the results."""
        return {}

    def describe(self) -> str:
        """A resolved system in words."""
        return self.name

    @property
    def train_precision(self) -> str:
        """Precision of matrix products while training."""
        return "highest"


AnySystem = System[Any, Any, Any]
