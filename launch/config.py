"""What a grid config may say: sections, fields, ranges of values; from YAML and the command line to a checked Config.

Nothing here imports JAX, so that ``--help`` and a refusal are quick. A field marked as an axis takes one value or
many, see :mod:`launch.values`.
"""

import difflib
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from launch.paths import configs
from launch.values import MOST, AxisOf, Values, checked, expand, no_bool, shown, whole

DEFAULT = configs() / "quickstart.yaml"


class Refusal(Exception):
    """Input that is refused; the text is one line that names the field and the remedy."""


_Positive = Annotated[float, BeforeValidator(no_bool), Field(gt=0, allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_AtLeastOne = Annotated[float, Field(ge=1, allow_inf_nan=False)]
_Momentum = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(whole), Field(ge=1)]
_CountFromZero = Annotated[int, BeforeValidator(whole), Field(ge=0)]

Counts = Annotated[Values, AxisOf(_Count)]
CountsFromZero = Annotated[Values, AxisOf(_CountFromZero)]
OptionalCounts = Annotated[Values | None, AxisOf(_Count, optional=True)]
Positives = Annotated[Values, AxisOf(_Positive)]
OptionalPositives = Annotated[Values | None, AxisOf(_Positive, optional=True)]
NonNegatives = Annotated[Values, AxisOf(_NonNegative)]
OptionalNonNegatives = Annotated[Values | None, AxisOf(_NonNegative, optional=True)]
Momenta = Annotated[Values, AxisOf(_Momentum)]
Conditions = Annotated[Values, AxisOf(_AtLeastOne)]
Ensembles = Annotated[Values | None, AxisOf(Literal["gaussian", "rank_one", "population"], optional=True)]
Penalties = Annotated[Values, AxisOf(Literal["smoothed_group_lasso", "group_lasso", "weight_decay", "none"])]
Biases = Annotated[Values, AxisOf(Literal["free", "none"])]
Digits = Annotated[Values, AxisOf(Annotated[int, BeforeValidator(whole), Field(ge=0, le=9)])]
Starts = Annotated[Values | None, AxisOf(Literal["gaussian", "identical", "near", "tensor"], optional=True)]
Supports = Annotated[Values, AxisOf(Literal["independent", "overlap"])]
Draws = Annotated[Values, AxisOf(Literal["uniform", "gaussian"])]
Data = Annotated[Values, AxisOf(Literal["digits", "mnist", "cifar10"])]
Rewinds = Annotated[Values, AxisOf(Literal["start", "none", "redraw"])]
Rules = Annotated[
    Values | None,
    AxisOf(
        Literal[
            "threshold",
            "top_r",
            "largest_gap",
            "random",
            "gradient",
            "magnitude",
            "oracle",
            "none",
            "teacher",
            "iterative_magnitude",
            "snip",
            "grasp",
            "synflow",
        ],
        optional=True,
    ),
]
Parities = Annotated[Values, AxisOf(Literal["both", "even", "odd", "none", "linear"])]
Spreads = Annotated[Values, AxisOf(Literal["equal", "random", "axes", "spike"])]
Activations = Annotated[Values, AxisOf(Literal["relu", "tanh", "softplus", "gelu"])]
Residuals = Annotated[Values, AxisOf(Literal["none", "mean", "ols"])]
SecondLayers = Annotated[Values, AxisOf(Literal["ridge", "none"])]
_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_ShareFromZero = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_ShareBelowOne = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Shares = Annotated[Values, AxisOf(_Share)]
OptionalShares = Annotated[Values | None, AxisOf(_Share, optional=True)]
SharesFromZero = Annotated[Values, AxisOf(_ShareFromZero)]
SharesBelowOne = Annotated[Values, AxisOf(_ShareBelowOne)]
UnevenShares = Annotated[Values, AxisOf(Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)])]
Rotations = Annotated[Values, AxisOf(Literal["none", "svd"])]
Methods = Annotated[
    Values,
    AxisOf(
        Literal[
            "greedy_pruning",
            "trace_norm",
            "spectral",
            "scaled_gd",
            "scaled_gd_lambda",
            "prec_gd",
            "niht",
            "small_start",
            "irls",
            "descent",
            "linear",
            "lasso",
            "diagonal_spectral",
            "truncated_power",
        ]
    ),
]
Optimizers = Annotated[Values | None, AxisOf(Literal["gd", "momentum", "nesterov", "adam"], optional=True)]
Seeds = Annotated[Values, AxisOf(Annotated[int, Field(ge=0, lt=2**32)])]


def _seed_count(raw: Any) -> Any:
    """``seeds: 16`` means seeds 0 to 15."""
    items, listed = expand(raw)
    if listed or not items:
        return items
    return list(range(checked(TypeAdapter(Annotated[int, Field(ge=1, le=MOST)]), items[0])))


def _eigenvalues(raw: Any) -> Any:
    """A list that is one value, such as a spectrum, is written like an axis."""
    return None if raw is None else expand(raw)[0]


Spectrum = Annotated[tuple[_Positive, ...] | None, BeforeValidator(_eigenvalues)]
Numbers = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None, BeforeValidator(_eigenvalues)]
Layers = Annotated[tuple[_Count, ...] | None, BeforeValidator(_eigenvalues)]


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Section):
    """The truth and the data."""

    dim: Counts = Field(default=Values((20,), False), description="side d of the matrices, or inputs")
    width: OptionalCounts = Field(default=None, description="columns k of the factor; null: dim")
    rank: Counts = Field(default=Values((2,), False), description="rank r of the truth")
    n: Counts = Field(default=Values((400,), False), description="number of measurements, or of samples")
    measurements: Ensembles = Field(
        default=None, description="gaussian, rank_one or population; null: what the system measures by"
    )
    noise: NonNegatives = Field(
        default=Values((0.0,), False),
        description="standard deviation sigma of the noise; teacher_student: over the root mean square of y",
    )
    condition: Conditions = Field(
        default=Values((1.0,), False),
        description="mu_1 / mu_r of the truth, mu_1 = 1; teacher_student: norm of the first neuron over the last's",
    )
    spectrum: Spectrum = Field(default=None, description="eigenvalues of the truth, instead of condition")
    columns: OptionalCounts = Field(default=None, description="rectangular: columns of the matrices; null: dim")
    bias: Biases = Field(
        default=Values(("free",), False), description="quadratic_network: output bias free (at its best) or none"
    )
    truncation: OptionalPositives = Field(
        default=None, description="quadratic_network: drop samples this many standard deviations from the mean of y"
    )
    positive: Digits = Field(default=Values((3,), False), description="digits: the digit labelled +1")
    negative: Digits = Field(default=Values((8,), False), description="digits: the digit labelled -1")
    constant: Positives = Field(default=Values((1.0,), False), description="digits: value of the constant input")
    directions: Counts = Field(
        default=Values((1,), False), description="sparse_features: directions r that y depends on"
    )
    sparsity: Counts = Field(default=Values((8,), False), description="sparse_features: coordinates in the directions")
    softness: NonNegatives = Field(
        default=Values((0.0,), False),
        description="sparse_features: q of soft sparsity, below 2; 0: the other rows are 0",
    )
    spread: Spreads = Field(
        default=Values(("equal",), False), description="sparse_features: rows of V: equal, random, axes or spike"
    )
    tilt: NonNegatives = Field(
        default=Values((0.0,), False),
        description="sparse_features: small entries of a spike, at most 1 / sqrt(sparsity - 1)",
    )
    link: Numbers = Field(
        default=None, description="sparse_features: coefficients of he_1, he_2, ...; null: he_2; scaled to variance 1"
    )
    test: Counts = Field(
        default=Values((6400,), False), description="sparse_features: fresh samples that measure the risk"
    )
    noise_columns: CountsFromZero = Field(
        default=Values((200,), False), description="diabetes: columns of noise beside the ten real ones"
    )
    support: Counts = Field(default=Values((20,), False), description="teacher_student: inputs r that a neuron sees")
    supports: Supports = Field(
        default=Values(("independent",), False), description="teacher_student: supports independent, or with an overlap"
    )
    overlap: SharesFromZero = Field(
        default=Values((0.0,), False), description="teacher_student: share of a support that all neurons have"
    )
    uneven: UnevenShares = Field(
        default=Values((0.0,), False),
        description="teacher_student: supports of (1 - uneven) r to (1 + uneven) r inputs",
    )
    draw: Draws = Field(
        default=Values(("uniform",), False), description="teacher_student: entries of the teacher, uniform or gaussian"
    )
    data: Data = Field(default=Values(("digits",), False), description="images: digits, or files of mnist or cifar10")
    folder: str | None = Field(default=None, description="images: where the files of mnist or cifar10 lie")
    truth: str | None = Field(
        default=None, description=".npy file with the factor U* (dim, rank), instead of a drawn one"
    )


class Train(Section):
    """Training on loss plus penalty."""

    method: Methods = Field(
        default=Values(("greedy_pruning",), False),
        description="greedy_pruning, or to compare: trace_norm, spectral, scaled_gd, scaled_gd_lambda, prec_gd, niht, "
        "small_start, irls; sparse_features: greedy_pruning, descent, linear, lasso, spectral, diagonal_spectral, "
        "truncated_power",
    )
    penalty_kind: Penalties = Field(
        default=Values(("smoothed_group_lasso",), False),
        description="smoothed_group_lasso, group_lasso (by proximal steps), weight_decay or none",
    )
    penalty: NonNegatives = Field(default=Values((0.1,), False), description="weight lambda of the penalty")
    smoothing: Positives = Field(default=Values((0.04,), False), description="smoothing beta of the group lasso")
    optimizer: Optimizers = Field(
        default=None,
        description="gd, momentum (heavy ball), nesterov or adam; null: gd, teacher_student: momentum, images: adam",
    )
    rate: OptionalPositives = Field(
        default=None, description="step size; null: 0.02, teacher_student: 10, images: 0.005"
    )
    momentum: Momenta = Field(default=Values((0.9,), False), description="read by momentum and nesterov")
    start_scale: OptionalPositives = Field(
        default=None,
        description="expected column norm at the start; null: 0.3; teacher_student: norm over the teacher's, null: 1",
    )
    start: Starts = Field(
        default=None,
        description="gaussian columns, or identical: one column in all places; teacher_student: near (the teacher), "
        "gaussian, tensor; null: the first",
    )
    distance: NonNegatives = Field(
        default=Values((0.1,), False), description="teacher_student: of a near start, over the norm of the teacher"
    )
    batch: OptionalCounts = Field(
        default=None, description="measurements or samples drawn, with replacement, for each step; null: all in each"
    )
    subsets: Counts = Field(
        default=Values((1,), False), description="teacher_student: disjoint parts of the samples, one for each step"
    )
    layers: Layers = Field(default=None, description="images: neurons of the hidden layers; null: 128, 64")
    round_steps: Counts = Field(
        default=Values((200,), False), description="teacher_student, images: steps in a round of iterative pruning"
    )
    success: NonNegatives = Field(
        default=Values((1e-4,), False), description="teacher_student: training ends at this relative error"
    )
    steps: _CountFromZero | None = Field(
        default=None,
        description="steps at most; 0: pruned at the start; null: 1000, sparse_features and teacher_student: 0, "
        "images: 3200",
    )
    tolerance: OptionalNonNegatives = Field(
        default=None, description="stop at this gradient norm; null: 1e-4, teacher_student and images: 0"
    )
    perturbation: NonNegatives = Field(
        default=Values((0.0,), False), description="radius of the noise at a stationary point"
    )
    patience: _Count = Field(default=200, description="steps a perturbed run has to get lower")
    activation: Activations = Field(
        default=Values(("relu",), False), description="sparse_features: relu, tanh, softplus or gelu"
    )
    neurons: OptionalCounts = Field(
        default=None,
        description="sparse_features: mirrored pairs of neurons, null: 128; teacher_student: neurons K, null: 5",
    )
    residual: Residuals = Field(
        default=Values(("none",), False),
        description="sparse_features: taken from y before the step: none, mean (of y x) or ols (least squares)",
    )
    second_layer: SecondLayers = Field(
        default=Values(("ridge",), False), description="sparse_features: ridge, or none: measures the first layer alone"
    )


class Prune(Section):
    """Deleting columns, input coordinates or weights."""

    threshold: OptionalNonNegatives = Field(
        default=None, description="columns of at most this norm go; null: 2 sqrt(smoothing)"
    )
    rule: Rules = Field(
        default=None,
        description="threshold; or top_r (keeps the r largest, r known), largest_gap, random (keeps r at random); "
        "sparse_features: gradient, magnitude, random, oracle, none; teacher_student: teacher, iterative_magnitude, "
        "magnitude, random, snip, grasp, synflow, none; images: the same but teacher; null: the first",
    )
    rotation: Rotations = Field(
        default=Values(("none",), False), description="none, or svd: columns turned onto the singular vectors first"
    )

    pool: Counts = Field(
        default=Values((10,), False), description="sparse_features: coordinates M kept from each part of the scores"
    )
    parity: Parities = Field(
        default=Values(("both",), False),
        description="sparse_features: parts of the scores: both, even, odd, none, linear",
    )
    contraction: Shares = Field(
        default=Values((0.5,), False), description="sparse_features: c of the shifted basis c e_i + sqrt(1-c^2) e_z"
    )
    biases: Counts = Field(default=Values((4,), False), description="sparse_features: biases drawn for the scores")
    bias_values: Numbers = Field(default=None, description="sparse_features: the biases of the scores themselves")
    kept: OptionalShares = Field(
        default=None,
        description="teacher_student, images: share of the weights that stay; null: the teacher's, with rule none all",
    )
    share: SharesBelowOne = Field(
        default=Values((0.2,), False),
        description="teacher_student, images: of the weights that are left, those a round of iterative pruning deletes",
    )
    accuracy: SharesFromZero = Field(
        default=Values((1.0,), False),
        description="teacher_student: share of the teacher's supports that a mask of rule teacher covers",
    )
    rewind: Rewinds = Field(
        default=Values(("start",), False),
        description="teacher_student, images: weights kept by magnitude go back to the start, none, or are drawn anew",
    )
    rewind_step: CountsFromZero = Field(
        default=Values((0,), False),
        description="teacher_student, images: step that they go back to, in the first round",
    )
    score_rounds: OptionalCounts = Field(
        default=None,
        description="teacher_student, images: scorings by random, snip, grasp, synflow; null: 100 by synflow, else 1",
    )


class FineTune(Section):
    """Descent on the loss alone, of what is left."""

    steps: _CountFromZero | None = Field(
        default=None,
        description="steps at most; 0: measured as pruned; null: 300, sparse_features: 0, teacher_student: 2000, "
        "images: 200",
    )
    rate: OptionalPositives = Field(default=None, description="step size; null: the training rate")
    tolerance: OptionalNonNegatives = Field(
        default=None, description="stop at this gradient norm; null: 1e-5, teacher_student and images: 0"
    )


class Baseline(Section):
    """Tuning of the methods other than greedy_pruning, in their own units: 1 and 0 ask for their own rules."""

    rate: Positives = Field(default=Values((1.0,), False), description="step size, in units of the method's own")
    penalty: NonNegatives = Field(
        default=Values((0.0,), False), description="regularisation or damping, relative; 0: the method's rule"
    )
    start_scale: Positives = Field(
        default=Values((1e-3,), False), description="column norm of a random start, relative to the solution"
    )
    tolerance: NonNegatives = Field(default=Values((0.0,), False), description="stop at this relative change in a step")


class Run(Section):
    """Seeds, precision, and how the work is cut."""

    seeds: Annotated[Seeds, BeforeValidator(_seed_count)] = Field(
        default=Values((0,), True), description="how many, or a list"
    )
    precision: Literal["float32", "float64"] = Field(default="float32", description="float32 or float64")
    record_every: _Count = Field(default=50, description="steps between records of loss and error")
    train_products: Literal["highest", "high", "default"] = Field(
        default="highest", description="precision of products while training on an accelerator; fine-tuning: highest"
    )
    curvature_steps: _CountFromZero = Field(
        default=30, description="Lanczos steps for the smallest Hessian eigenvalue after training; 0: not measured"
    )
    form: Literal["auto", "gram", "direct"] = Field(default="auto", description="form of the data; auto: the cheapest")
    hessian: bool = Field(
        default=False, description="teacher_student: eigenvalues of the loss at the teacher are measured"
    )
    memory_gib: _Positive | None = Field(default=None, description="memory for a chunk; null: half of what is free")


class Expectation(Section):
    """What one measured quantity must be for a claim to hold: near a value, or between bounds."""

    value: float | tuple[float, ...] | None = None
    within: float = Field(default=0.0, ge=0, description="distance from value that is allowed")
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _something(self) -> "Expectation":
        bounds = self.at_least is not None or self.at_most is not None
        if (self.value is not None) == bounds:
            raise ValueError("give either value (and within) or at_least and at_most")
        return self


class Claim(Section):
    """What a grid is to show: a sentence, whose it is, and what every measured quantity must be.

    ``check`` names the measurement; ``grids`` are further grids, as changes of this config, that it needs; ``full``
    changes all of them to the full size, which may need ``full_grids`` besides.
    """

    statement: str
    source: Literal["paper", "recalled", "derived"]
    check: str
    expect: dict[str, Expectation]
    grids: dict[str, dict[str, Any]] = {}
    full: dict[str, Any] = {}
    full_grids: dict[str, dict[str, Any]] = {}


class Config(Section):
    """One grid: one claim. Axis fields may hold many values; all combinations are run."""

    name: str = Field(default="grid", pattern=r"^[A-Za-z0-9._-]+$", description="names the run")
    system: Literal[
        "sensing",
        "rectangular",
        "quadratic_network",
        "digits",
        "sparse_features",
        "diabetes",
        "teacher_student",
        "images",
    ] = Field(default="sensing", description="which experiment")
    problem: Problem = Problem()
    train: Train = Train()
    prune: Prune = Prune()
    fine_tune: FineTune = FineTune()
    baseline: Baseline = Baseline()
    run: Run = Run()
    claim: Claim | None = Field(default=None, description="what the grid is to show, for launch.claims")

    @model_validator(mode="after")
    def _agree(self) -> "Config":
        p = self.problem
        given = [name for name in ("spectrum", "truth") if getattr(p, name) is not None]
        if given and p.condition.values != (1.0,):
            raise ValueError(f"problem.condition: {given[0]} already fixes the eigenvalues; leave condition at 1")
        if len(given) == 2:
            raise ValueError("problem.spectrum: the truth file already fixes the eigenvalues; remove spectrum")
        rank, *more = p.rank.values
        if given and more:
            raise ValueError(f"problem.rank: {given[0]} fixes the rank; give one value")
        if self.system == "digits" and any(digit in p.negative.values for digit in p.positive.values):
            raise ValueError("problem.negative: a digit cannot be told from itself; give others than problem.positive")
        if any(p.overlap.values) and "independent" in p.supports.values:
            raise ValueError("problem.overlap: independent supports have none; set problem.supports to overlap")
        most = min(max(s - 1, 1) ** -0.5 for s in p.sparsity.values)
        if "spike" in p.spread.values and max(p.tilt.values) > most:
            raise ValueError(f"problem.tilt: a spike's entries beyond norm 1; give at most {most:.4g}")
        if p.spectrum is not None and len(p.spectrum) != rank:
            raise ValueError(f"problem.spectrum: {len(p.spectrum)} eigenvalues for rank {rank}; give rank many")
        return self

    def plain(self) -> dict[str, Any]:
        """The config as YAML would hold it, but for the claim, which decides no number."""
        return self.model_dump(mode="json", exclude={"claim"})

    def digest(self, truth: bytes = b"") -> str:
        """Identity of the experiment: all fields that decide a number, and the truth file's contents."""
        fields = self.plain()
        del fields["run"]["memory_gib"], fields["name"]
        text = json.dumps(fields, sort_keys=True).encode()
        return hashlib.sha256(text + truth).hexdigest()[:16]


class _Loader(yaml.SafeLoader):
    """Plain YAML, but a key given twice in a mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a dictionary; Refusal if it is missing or no mapping."""
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise Refusal(f"config {path}: no such file; give the path of a YAML config, e.g. {DEFAULT}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"config {path}: cannot be read ({type(error).__name__}); give a readable YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = (f" at line {mark.line + 1}" if mark else "") + (f" ({problem})" if problem else "")
        raise Refusal(f"config {path}: not valid YAML{where}; mend the syntax") from None
    if not isinstance(loaded, dict):
        raise Refusal(f"config {path}: not a mapping of sections; see {DEFAULT.name} for the form")
    return {"name": re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)} | loaded


def build(fields: dict[str, Any]) -> Config:
    """A checked Config; Refusal with one line naming every wrong field."""
    try:
        return Config.model_validate(fields)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise Refusal("; ".join(_line(problem) for problem in problems[:3])) from None


def _line(problem: Any) -> str:
    field, message = ".".join(str(part) for part in problem["loc"]), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return unknown(field)
    if not field:
        return message
    if problem["type"] == "missing":
        return f"{field}: is missing; give it"
    if problem["type"] == "model_type":
        return f"{field}: a section holds fields, not {shown(problem['input'])}; write {field}: {{field: value}}"
    got = "" if "got " in message or problem["type"] == "value_error" else f", got {shown(problem['input'])}"
    return f"{field}: {message}{got}"


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config's fields with some of them changed, section by section."""
    inside = [name for name, new in changes.items() if isinstance(new, dict) and isinstance(fields.get(name), dict)]
    return fields | changes | {name: merged(fields[name], changes[name]) for name in inside}


def field_names() -> list[str]:
    """All fields as ``section.field``."""
    names = []
    for name, info in Config.model_fields.items():
        section = Claim if name == "claim" else info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            names += [f"{name}.{inner}" for inner in section.model_fields]
        else:
            names.append(name)
    return names


def unknown(field: str) -> str:
    """The line that refuses an unknown field and names the nearest known one."""
    inside = [name for name in field_names() if name.startswith(f"{field}.")]
    if inside:
        return f"{field}: a section; give one of its fields, e.g. --{inside[0]}"
    known = field_names() + [name for name in Config.model_fields if name not in field_names()]
    near = [name for name in known if name.endswith("." + field.split(".")[-1])][:1]
    near = near or difflib.get_close_matches(field, known, 1, 0.7)
    return f"{field}: unknown field; " + (f"did you mean {near[0]}?" if near else "--help lists the fields")
