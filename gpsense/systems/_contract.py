"""What a system of the papers offers to the pipeline and the grid: a problem, and the phases of a cell."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import equinox as eqx

from gpsense._types import RandomKey, Scalar
from gpsense.descent import Descent
from gpsense.keys import Keys


class Cost(eqx.Module):
    """What one cell costs: flops a training step, bytes of a problem, bytes of a cell being trained or kept.

    ``sample_bytes`` are needed while a problem is drawn; ``once`` are flops beside the steps: drawing, pruning.
    """

    flops: float = eqx.field(static=True)
    problem_bytes: int = eqx.field(static=True)
    sample_bytes: int = eqx.field(static=True)
    cell_bytes: int = eqx.field(static=True)
    kept_bytes: int = eqx.field(static=True)
    once: float = eqx.field(static=True, default=0.0)


class Descending(eqx.Module):
    """A state whose status and steps are those of one descent; a system adds what else it carries."""

    run: Descent

    @property
    def status(self) -> Any:
        return self.run.status

    @property
    def steps(self) -> Any:
        return self.run.steps


@runtime_checkable
class System(Protocol):
    """One kind of experiment: a problem, training, pruning and fine-tuning, measures; every function is pure.

    ``Spec`` (frozen dataclass) is static and decides what is compiled; ``Instance`` (numbers that change the data)
    and ``Setting`` (numbers that do not) are traced. A field's role in a grid is the class it stands in; a size that
    stands in Spec and in one of the others is traced where :meth:`traceable` says so. The grid itself reads of a Spec
    ``dtype`` and, where they are there, ``width`` and ``train_products`` (precision of products while training).

    ``metrics`` describes and gives the units of measures that are the system's own; ``table`` names those shown in
    the table of a run; ``steps`` are those of training and of fine-tuning unless others are asked for. Systems pruned
    by columns share :class:`gpsense.systems.ColumnSystem`. A system whose steps must fit its spec may also have
    ``check_schedule(spec, train_steps, record_every, settings)``, which raises BadInput where they do not.
    """

    name: ClassVar[str]
    Spec: ClassVar[type]
    Instance: ClassVar[type]
    Setting: ClassVar[type]
    metrics: ClassVar[dict[str, tuple[str, str]]]
    table: ClassVar[tuple[str, ...]]
    steps: ClassVar[tuple[int, int]]

    def check(self, spec: Any) -> None:
        """Raise BadInput, naming the field, for a spec that cannot be."""
        ...

    def resolve(self, spec: Any, evaluations: int) -> Any:
        """The spec with every automatic choice made; a problem's loss is evaluated so often (at least once)."""
        ...

    def traceable(self, spec: Any, sizes: dict[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Which of these sizes may be traced below the bounds in ``spec``: where that costs little more, or less."""
        ...

    def cost(self, spec: Any) -> Cost:
        """Flops and bytes of a resolved spec."""
        ...

    def describe(self, spec: Any) -> str:
        """A resolved spec in words, for people."""
        ...

    def stride(self, spec: Any) -> int:
        """Steps between judgements: the status of a state changes after a multiple of them."""
        ...

    def donates(self, spec: Any, width: int) -> bool:
        """Whether fine-tuning at this width begins with arrays of the shapes that training ended with.

        The memory of the trained state is then used again.
        """
        ...

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        """Draw a problem: truth, data, noise."""
        ...

    def begin(self, spec: Any, problem: Any, setting: Any, keys: Keys) -> Any:
        """The state training starts from; every state has ``status`` (a code of gpsense.descent) and ``steps``."""
        ...

    def train(self, spec: Any, problem: Any, setting: Any, state: Any, n_steps: int) -> Any:
        """Up to ``n_steps`` more steps; a state that has stopped is returned unchanged."""
        ...

    def prune(self, spec: Any, problem: Any, setting: Any, state: Any) -> Any:
        """What pruning decides and measures; its ``mask`` (parts,) is True for the prunable parts that stay."""
        ...

    def begin_fine_tuning(self, spec: Any, problem: Any, setting: Any, state: Any, pruned: Any, width: int) -> Any:
        """The state fine-tuning starts from, with room for ``width`` parts: at least as many as are kept.

        Room that is not filled must change no number.
        """
        ...

    def fine_tune(self, spec: Any, problem: Any, setting: Any, state: Any, n_steps: int) -> Any:
        """As :meth:`train`, of what pruning left."""
        ...

    def record(self, spec: Any, problem: Any, setting: Any, state: Any) -> dict[str, Scalar]:
        """``loss_curve`` and ``error_curve`` of a state of either phase as it stands."""
        ...

    def finish(self, spec: Any, problem: Any, setting: Any, state: Any, pruned: Any) -> dict[str, Any]:
        """All measures of a finished cell by name: ``rank`` (parts kept), ``error``, ``status`` and more.

        Numbers of a diverged cell are NaN; its status says why. What a measure is beyond the common ones of
        :data:`gpsense.grid.results.MEASURES` stands in :attr:`metrics`.
        """
        ...
