"""What a system of the papers offers to the pipeline and the grid."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import equinox as eqx

from gpsense._types import RandomKey, Scalar, ScalarLike
from gpsense.baselines import Baseline, Tuning
from gpsense.descent import Method, Rates, Target


class Cost(eqx.Module):
    """What one cell costs: flops a training step, bytes of a problem, bytes of a cell being trained or kept."""

    flops: float = eqx.field(static=True)
    problem_bytes: int = eqx.field(static=True)
    sample_bytes: int = eqx.field(static=True)
    cell_bytes: int = eqx.field(static=True)
    kept_bytes: int = eqx.field(static=True)


@runtime_checkable
class System(Protocol):
    """One kind of experiment: problem, start, losses, scores and masks, measures; every function is pure.

    ``Spec`` (frozen dataclass) is static and decides what is compiled; ``Instance`` (numbers that change the data)
    and ``Setting`` (numbers that do not) are traced. A field's role in a grid is the class it stands in; a size that
    stands in Spec and in one of the others is traced where :meth:`traceable` says so. The grid itself reads of a Spec
    ``dtype``, ``width`` and ``train_products`` (precision of products while training), the pipeline
    ``curvature_steps`` (Lanczos steps of a certificate, 0 for none).
    """

    name: ClassVar[str]
    Spec: ClassVar[type]
    Instance: ClassVar[type]
    Setting: ClassVar[type]
    metrics: ClassVar[dict[str, tuple[str, str]]]

    def check(self, spec: Any) -> None:
        """Raise BadInput, naming the field, for a spec that cannot be."""
        ...

    def resolve(self, spec: Any, evaluations: int) -> Any:
        """The spec with every automatic choice made, given how often a problem's loss will be evaluated."""
        ...

    def traceable(self, spec: Any, sizes: dict[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        """Which of these sizes may be traced below the bounds in ``spec``: where that costs little more, or less."""
        ...

    def active(self, spec: Any, setting: Any) -> Any:
        """Which parts of the parameters are in use where a size is traced: as :meth:`scores`, boolean."""
        ...

    def cost(self, spec: Any) -> Cost:
        """Flops and bytes of a resolved spec."""
        ...

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        """Draw a problem: truth, data, noise."""
        ...

    def start(self, spec: Any, setting: Any, key: RandomKey) -> Any:
        """Parameters that training starts from."""
        ...

    def method(self, spec: Any) -> Method:
        """How both phases descend."""
        ...

    def rival(self, spec: Any) -> Baseline | None:
        """The competing method to run in place of training, pruning and fine-tuning, if the spec names one."""
        ...

    def tuning(self, setting: Any) -> Tuning:
        """The numbers such a method reads."""
        ...

    def rates(self, setting: Any) -> tuple[Rates, Rates]:
        """Step sizes and tolerances of training and of fine-tuning."""
        ...

    def objectives(self, spec: Any, problem: Any, setting: Any) -> tuple[Target, Target]:
        """What training and what fine-tuning minimise, with gradients."""
        ...

    def scores(self, params: Any) -> Any:
        """One number per prunable part of the parameters."""
        ...

    def threshold(self, setting: Any) -> ScalarLike:
        """Parts whose score is not above this are pruned, by the rule of the paper."""
        ...

    def rotate(self, spec: Any, params: Any) -> Any:
        """The parameters in the coordinates that pruning sees."""
        ...

    def mask(self, spec: Any, problem: Any, setting: Any, scores: Any) -> Any:
        """Which parts stay, by the rule the spec names; a part out of use has score NaN and goes."""
        ...

    def margin(self, spec: Any, setting: Any, scores: Any, mask: Any) -> Scalar:
        """How far the mask is from changing, in units of the scores."""
        ...

    def coherence(self, params: Any, mask: Any) -> Scalar:
        """How far the parts that stay are from being independent: 0 where they are, at most 1."""
        ...

    def prune(self, params: Any, mask: Any) -> Any:
        """The parameters with the pruned parts zero, shapes kept."""
        ...

    def compact(self, params: Any, mask: Any, width: int) -> Any:
        """The parameters at a smaller static width; the kept parts must fit."""
        ...

    def error(self, problem: Any, params: Any) -> Scalar:
        """Distance to the truth, relative."""
        ...
