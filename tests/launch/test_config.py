"""Values of an axis in every form, YAML to a checked config, and the config's identity."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest

from gpsense.fields import Field
from gpsense.systems import SYSTEMS, AnySystem
from launch.config import DEFAULT, build, merged, read_yaml
from launch.schema import schema, unknown
from launch.shell import Refusal
from launch.values import Values, expand
from launch.work import to_grid
from tests.launch.toy_system import Toy


def axis(raw: Any, section: str = "problem", name: str = "noise") -> Values:
    """The values of an axis field given as raw YAML or text."""
    return build({section: {name: raw}}).values[f"{section}.{name}"]


@pytest.mark.parametrize(
    ("raw", "values", "listed"),
    [
        (0.1, (0.1,), False),
        ("0.1", (0.1,), False),
        ("1e-4", (1e-4,), False),
        ([0.1], (0.1,), True),
        ("0.1,", (0.1,), True),
        ([0, "1e-4", 2], (0.0, 1e-4, 2.0), True),
        ("0,1e-2, 1e-1", (0.0, 1e-2, 1e-1), True),
        ("log:1e-3:1e-1:3", (1e-3, 1e-2, 1e-1), True),
        ("lin:0:1:5", (0.0, 0.25, 0.5, 0.75, 1.0), True),
        ("lin:0.1:0.7:4", (0.1, 0.3, 0.5, 0.7), True),
        ("lin:1:0:2", (1.0, 0.0), True),
        ("range:2:5", (2.0, 3.0, 4.0), True),
        ([0.5, "range:2:4"], (0.5, 2.0, 3.0), True),
    ],
)
def test_every_form_of_an_axis_gives_its_exact_values(raw: Any, values: tuple[float, ...], listed: bool) -> None:
    assert axis(raw) == Values(values, listed)


@pytest.mark.parametrize(("low", "high"), [(1.23456789012345e-7, 9.87654321098765), (3.3e-5, 0.1), (1 / 3, 2 / 3)])
@pytest.mark.parametrize("kind", ["log", "lin"])
def test_ranges_hit_their_ends_exactly_and_rise_evenly(kind: str, low: float, high: float) -> None:
    values, listed = expand(f"{kind}:{low!r}:{high!r}:7")
    assert listed
    assert (values[0], values[-1]) == (low, high)
    even = [math.log(value) for value in values] if kind == "log" else values
    gaps = [after - before for before, after in pairwise(even)]
    assert gaps == pytest.approx([gaps[0]] * 6, rel=1e-9)


def test_counts_take_whole_numbers_in_any_spelling() -> None:
    assert axis("20.0", name="dim") == axis(20.0, name="dim") == axis("20", name="dim") == Values((20,), False)
    assert axis("lin:10:30:3", name="n") == Values((10, 20, 30), True)
    assert all(isinstance(value, int) for value in axis("lin:10:30:3", name="n").values)


@pytest.mark.parametrize(
    ("raw", "seeds"),
    [
        (3, (0, 1, 2)),
        ("3", (0, 1, 2)),
        (3.0, (0, 1, 2)),
        ("3.0", (0, 1, 2)),
        ([3], (3,)),
        ("3,", (3,)),
        ("3,5", (3, 5)),
        ([3, 5], (3, 5)),
        ("range:4:7", (4, 5, 6)),
        ([2**32 - 1], (2**32 - 1,)),
    ],
)
def test_one_number_counts_seeds_and_a_list_names_them(raw: Any, seeds: tuple[int, ...]) -> None:
    assert axis(raw, "run", "seeds") == Values(seeds, True)


def test_spectrum_is_written_like_an_axis() -> None:
    for raw in ([1, 0.5], "1,0.5", "lin:1:0.5:2"):
        assert build({"problem": {"spectrum": raw}}).values["problem.spectrum"] == (1.0, 0.5)


def test_null_is_the_default() -> None:
    assert axis(None, "prune", "threshold") is None
    assert axis(None) == Values((0.0,), False)
    with pytest.raises(Refusal, match=r"^problem\.noise: null is listed with other values; give null alone$"):
        axis([0.1, None])


@pytest.mark.parametrize(
    "raw",
    [
        *("log:0:1:3", "log:-1:1:3", "log:1:2", "log:1:2:3:4", "log:1:10:2.5", "log:1:2:1000000000", "LOG:1:2:3"),
        *("lin:0:1:1", "lin:a:1:3", "lin:0:1:1000000000", "range:1", "range:0:1000000000", "foo:1:2"),
    ],
)
def test_bad_ranges_are_refused_with_the_form_to_write(raw: str) -> None:
    with pytest.raises(Refusal, match=rf"^problem\.noise: '{raw}' is not a valid range; write \w+:\w+:\w+"):
        axis(raw)


def test_every_wrong_field_is_named_in_one_line() -> None:
    with pytest.raises(Refusal) as refusal:
        build({"problem": {"noise": -1, "dim": 0}, "train": {"rte": 1}})
    line = str(refusal.value)
    assert all(name in line for name in ("problem.noise", "problem.dim", "train.rte", "did you mean train.rate?"))
    assert "\n" not in line


def test_long_values_are_cut_in_the_refusal() -> None:
    with pytest.raises(Refusal) as refusal:
        axis("x" * 1000)
    assert len(str(refusal.value)) < 200


def test_unknown_names_lead_to_the_nearest_known_one() -> None:
    system = SYSTEMS["sensing"]
    for key, meant in (("sistem", "system"), ("plugin", "plugins"), ("clam", "claim"), ("nme", "name")):
        with pytest.raises(Refusal, match=f"^{key}: there is no such field; did you mean {meant}\\?$"):
            build({key: "mine.py:Own", "problem": {"flip": 0.05}})
    assert unknown("problem.nosie", system).endswith("did you mean problem.noise?")
    assert unknown("tarin", system).endswith("did you mean train?")
    assert unknown("smoothing", system).endswith("did you mean train.smoothing?")
    for name in ("train.foo", "tran.foo"):  # a section is no remedy for a field
        assert "; section train has method, penalty_kind, optimizer, " in unknown(name, system)
    assert unknown("qqqq", system) == "qqqq: system sensing has no such field; --help lists the fields"
    assert unknown("problem", system) == "problem: a section; give one of its fields, e.g. --problem.dim"


def test_config_survives_its_own_plain_form() -> None:
    config = build({"problem": {"noise": "0,0.1", "spectrum": [1, 0.5]}, "run": {"seeds": 3, "precision": "float64"}})
    again = build(config.plain())
    assert again == config
    assert again.digest() == config.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"problem": {"noise": 0.2}},
        {"problem": {"noise": [0.0]}},
        {"train": {"steps": 7}},
        {"run": {"seeds": [1]}},
        {"run": {"precision": "float64"}},
    ],
)
def test_digest_changes_with_every_field_that_decides_a_number(change: dict[str, Any]) -> None:
    assert build(change).digest() != build({}).digest()


def test_digest_leaves_out_the_name_and_the_budget_but_not_the_truth() -> None:
    assert build({"name": "other", "run": {"memory_gib": 3}}).digest() == build({}).digest()
    assert build({}).digest(b"truth") != build({}).digest()


def test_digest_does_not_see_a_default_that_is_given() -> None:
    given = {"problem": {"noise": 0, "dim": "20.0"}, "prune": {"threshold": None}, "train": {"steps": 1000}}
    assert build(given).digest() == build({}).digest()


def test_digest_of_a_stored_run_stays() -> None:
    """Literals: a change of these makes every stored run another config's."""
    stored = {
        "name": "stored",
        "system": "sensing",
        "problem": {"dim": 6, "n": [30, 40], "noise": [0.3, 1.0], "spectrum": [1, 0.5]},
        "train": {"penalty": 0.2, "optimizer": "momentum"},
        "run": {"seeds": [0, 1], "precision": "float64"},
    }
    assert build(stored).digest() == "56a8be56855e702a"
    assert build(build(stored).plain()).digest() == "56a8be56855e702a"
    assert build({}).digest() == "94c314f202a5fcf8"


def test_a_new_field_with_the_old_meaning_as_default_keeps_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Newer(Toy):  # pyright: ignore[reportGeneralTypeIssues]
        novelty: Annotated[float, Field("problem", "what a release added", at_least=0)] = 0.0

    @dataclass(frozen=True, kw_only=True)
    class Revised(Toy):  # pyright: ignore[reportGeneralTypeIssues]
        revision: ClassVar[int] = 2

    def digest(system: type[AnySystem], **problem: Any) -> str:
        monkeypatch.setitem(SYSTEMS, "toy", system)
        given = {"dim": 5, "noise": [0.1, 0.2]} | problem
        return build({"system": "toy", "problem": given, "prune": {"threshold": 0.3}}).digest()

    assert digest(Newer) == digest(Newer, novelty=0) == digest(Toy) == "3b3d83900b43a58b"
    assert digest(Newer, novelty=1) != digest(Toy)
    assert digest(Revised) != digest(Toy)


def test_number_as_text_is_the_number_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("problem: {noise: [1e-4, 2E-3]}\ntrain: {tolerance: 1e-6}\n")
    config = build(read_yaml(path))
    assert config.values["problem.noise"] == Values((1e-4, 2e-3), True)
    assert config.values["train.tolerance"] == Values((1e-6,), False)
    assert config.name == "small"


@pytest.mark.parametrize(("stem", "name"), [("my grid", "my-grid"), ("größe", "gr-e"), ("v1.2_b", "v1.2_b")])
def test_any_file_name_names_a_run(tmp_path: Path, stem: str, name: str) -> None:
    path = tmp_path / f"{stem}.yaml"
    path.write_text("problem: {dim: 6}\n")
    assert build(read_yaml(path)).name == name


@pytest.mark.parametrize("path", sorted(DEFAULT.parent.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_repository_is_valid(path: Path) -> None:
    build(read_yaml(path))


def test_fields_of_starts_batches_and_pruning_rules_are_axes() -> None:
    values = build({"train": {"start": "identical", "batch": "10,20"}, "prune": {"rule": ["top_r", "random"]}}).values
    assert values["train.start"] == Values(("identical",), False)
    assert values["train.batch"] == Values((10, 20), True)
    assert values["prune.rule"] == Values(("top_r", "random"), True)
    assert values["run.curvature_steps"] == 30
    assert build({"run": {"curvature_steps": 0}}).values["run.curvature_steps"] == 0


CLAIM = {"statement": "s", "source": "paper", "kind": "law", "check": "c", "expect": {"a": {"value": 1}}}


def test_a_claim_expects_a_value_or_bounds() -> None:
    expect = {
        "a": {"value": 1, "within": 0.1},
        "b": {"value": [1, 2.5]},
        "c": {"at_most": 2},
        "d": {"at_least": "1e-3"},
    }
    claim = build({"claim": CLAIM | {"expect": expect}}).claim
    assert claim is not None
    assert (claim.expect["a"].value, claim.expect["a"].within) == (1.0, 0.1)
    assert claim.expect["b"].value == (1.0, 2.5)
    assert (claim.expect["c"].at_most, claim.expect["c"].at_least, claim.expect["d"].at_least) == (2.0, None, 1e-3)
    for bad in ({}, {"within": 0.1}, {"value": 1, "at_most": 2}):
        with pytest.raises(
            Refusal, match=r"claim\.expect\.a: give either value \(and within\), or at_least, at_most or both"
        ):
            build({"claim": CLAIM | {"expect": {"a": bad}}})
    with pytest.raises(Refusal, match=r"claim\.expect\.a\.within"):
        build({"claim": CLAIM | {"expect": {"a": {"value": 1, "within": -1}}}})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"statment": "s"}, r"claim\.statment: unknown field; did you mean statement"),
        ({"source": "folklore"}, r"claim\.source: "),
        ({"expect": {"a": {"valeu": 1}}}, r"claim\.expect\.a\.valeu: unknown field"),
    ],
)
def test_a_claim_that_cannot_be_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal, match="^" + field):
        build({"claim": CLAIM | change})


def test_a_claim_decides_no_number() -> None:
    config = build({"claim": CLAIM})
    assert config.digest() == build({}).digest()
    assert "claim" not in config.plain()


def test_merging_changes_fields_section_by_section() -> None:
    fields = {"name": "a", "train": {"penalty": 1, "steps": 5}, "problem": {"dim": 3}}
    assert merged(fields, {}) == fields
    changes = {"train": {"steps": 9}, "problem": {"n": 2}, "run": {"seeds": 1}, "name": "b"}
    expected = {"name": "b", "train": {"penalty": 1, "steps": 9}, "problem": {"dim": 3, "n": 2}, "run": {"seeds": 1}}
    assert merged(fields, changes) == expected
    assert fields["train"] == {"penalty": 1, "steps": 5}
    assert merged(fields, {"train": 3}) == fields | {"train": 3}
    assert merged({"train": None}, {"train": {"steps": 1}}) == {"train": {"steps": 1}}


@pytest.mark.parametrize(
    ("system", "field", "line"),
    [
        ("digits", "problem.noise", "(sensing, rectangular, quadratic_network, sparse_features, teacher_student have)"),
        ("sensing", "problem.columns", "(rectangular has)"),
        ("rectangular", "problem.positive", "(digits has)"),
    ],
)
def test_a_field_of_other_systems_is_refused_and_said_whose_it_is(system: str, field: str, line: str) -> None:
    section, _, key = field.partition(".")
    with pytest.raises(Refusal) as refusal:
        build({"system": system, section: {key: 1}})
    assert str(refusal.value).startswith(f"{field}: system {system} has no such field {line}; section problem has ")


def test_the_nearest_field_of_the_own_system_comes_before_those_of_others() -> None:
    with pytest.raises(Refusal, match=r"sensing has no such field \(.*patches have\); did you mean prune.keep\?"):
        build({"prune": {"kept": 0.5}})
    with pytest.raises(Refusal, match=r"\(patches has\); section prune has rule, rotation, threshold, keep$"):
        build({"prune": {"count": 3}})


def test_a_field_without_a_default_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Asking(Toy):  # pyright: ignore[reportGeneralTypeIssues]
        size: Annotated[int, Field("problem", "given always", at_least=1)]

    monkeypatch.setitem(SYSTEMS, "asking", Asking)
    with pytest.raises(Refusal, match=r"^problem\.size: it has no value; give --problem\.size VALUES$"):
        build({"system": "asking"})
    assert to_grid(build({"system": "asking", "problem": {"size": 3}})).system.size == 3


def test_a_size_of_two_classes_is_one_field() -> None:
    fields = [field for field in schema(Toy).values() if field.name == "n"]
    assert [(field.dotted, field.role, field.default) for field in fields] == [("problem.n", "static", 30)]


@pytest.mark.parametrize(("system", "expected"), [("sensing", (1e-4, 1e-5)), ("teacher_student", (0.0, 0.0))])
def test_tolerances_are_the_systems_own_unless_given(system, expected):
    """A teacher is found to 1e-4 long after the gradient norm is below 1e-5."""
    for given, tolerances in (({}, expected), ({"train": {"tolerance": 0.1}}, (0.1, expected[1]))):
        axes = {axis.name: axis.values for axis in to_grid(build({"system": system} | given)).axes}
        assert (axes["tolerance"], axes["fine_tune_tolerance"]) == tuple((each,) for each in tolerances)


@pytest.mark.parametrize("guide", ["README.md", "configs/README.md"])
def test_the_guides_name_the_folder_that_the_main_job_writes(guide: str) -> None:
    readme = (Path(__file__).parents[2] / guide).read_text(encoding="utf-8")
    folder = f"runs/quickstart-{build(read_yaml(DEFAULT)).digest()[:8]}"
    assert set(re.findall(r"runs/quickstart-\w+", readme)) == {folder}
