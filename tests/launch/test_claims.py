"""Claims from config to verdict: what is measured, what is expected, what the command prints, writes and returns."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import yaml

from gpsense import theory
from launch.claims import __main__ as command
from launch.claims import drawing, rehearsal, table
from launch.claims.__main__ import papers
from launch.claims.expectations import EXTRAS, Expectation
from launch.claims.experiment import absent, read_claims
from launch.claims.greedy_pruning import CHECKS
from launch.claims.greedy_pruning.columns import column_count
from launch.claims.greedy_pruning.saddle import approximate_points
from launch.claims.quantities import Quantity, exactly, pooled_share, share, told
from launch.claims.table import greek
from launch.claims.verdicts import judge
from launch.config import DEFAULT
from launch.shell import Refusal

GREEDY = DEFAULT.parent / "greedy_pruning"
FIELDS = {
    "paper",
    "claim",
    "size",
    "seed_offset",
    "first_seed",
    "statement",
    "source",
    "extra",
    "kind",
    "kinds",
    "precision",
    "expected",
    "measured",
    "tolerance",
    "verdicts",
    "deciding_seeds",
    "verdict",
    "digests",
    "config",
    "seconds",
}
SMALL = {
    "problem": {"dim": 6, "width": 3, "rank": 1, "measurements": "population", "spectrum": [1.0]},
    "train": {"penalty": [0.05, 0.1], "smoothing": 0.02, "rate": 0.05, "steps": 4000, "tolerance": 1e-7},
    "fine_tune": {"steps": 10},
    "run": {"seeds": 2, "precision": "float64", "record_every": 2000},
    "claim": {
        "statement": "A column on eigenvalue mu has squared norm s with s + (lambda/4) psi(s) = mu.",
        "source": "derived",
        "kind": "law",
        "check": "root_law",
        "expect": {"columns kept": {"value": [1, 1]}, "largest residual": {"at_most": 1e-3}},
    },
}


def write(folder: Path, **changes: Any) -> Path:
    """A folder of configs with one small claim, its section ``claim`` changed."""
    (folder / "greedy_pruning").mkdir()
    fields = SMALL | {"claim": SMALL["claim"] | changes}
    (folder / "greedy_pruning" / "small.yaml").write_text(yaml.safe_dump(fields))
    return folder / "greedy_pruning"


def test_a_failed_cell_helps_neither_a_lower_nor_an_upper_bound() -> None:
    ranks = np.array([2.0, 2.0, 3.0, np.nan])
    found = share(told(ranks == 2, ranks))
    whole = {hits: share(np.arange(4) < hits) for hits in (2, 3)}
    assert (found.value, found.low, found.high) == (whole[2].value, whole[2].low, whole[3].high)
    pooled = pooled_share(told(ranks == 2, ranks)[None].repeat(20, 0))
    assert float(pooled.value) == 0.5
    assert float(pooled.high) > 0.75
    np.testing.assert_array_equal(told(ranks > 2, ranks, [0, np.nan, 0, 0]), [0, np.nan, 1, np.nan])


def test_failed_cells_lie_outside_the_bounds_of_the_column_count() -> None:
    axes = {"seed": range(2), "start_scale": [1e-3, 0.3], "penalty": [0.01, 0.06]}
    ranks = np.full((2, 2, 2), 1.0)
    root = float(theory.column_root(jnp.asarray(1.0), 0.01, 0.01)) ** 0.5
    other = float(theory.column_root(jnp.asarray(1.0), 0.06, 0.01)) ** 0.5
    norms = np.zeros((2, 2, 2, 3))
    norms[..., 0] = [root, other]
    scalars = {"smoothing": 0.01, "true_rank": 1}

    def measured(ranks: np.ndarray) -> dict[str, Quantity]:
        found = {"rank": (tuple(axes), ranks), "column_norms": ((*axes, "column"), norms)}
        return column_count({"": xr.Dataset(found, axes | scalars, {"spectrum": [1.0]})}).quantities

    good = measured(ranks)
    assert good["runs outside the bounds"].value == 0
    assert good["distance to the root"].value < 1e-6
    ranks[1, 0, 1] = np.nan
    lost = measured(ranks)
    assert lost["runs outside the bounds"].value == 1
    assert judge(Expectation(at_most=1e-4), lost["distance to the root"]).word == "fails"
    assert judge(Expectation(value=1), lost["columns for τ < μ_r, all starts"]).word == "fails"


def test_failed_cells_are_points_outside_the_bound() -> None:
    axes = {"seed": range(2), "penalty": [0.1], "tolerance": [1e-8, 0.3]}
    shape = (2, 1, 2)
    numbers = {"coherence": 1e-6, "gradient_norm_trained": 0.1, "curvature_low": -0.1, "rank": 2.0}

    def measured(lost: bool) -> Quantity:
        found = {name: np.full(shape, value) for name, value in numbers.items()}
        norms = np.ones((*shape, 3))
        if lost:
            for values in (*found.values(), norms):
                values[0, 0, 1] = np.nan
        arrays = {name: (tuple(axes), values) for name, values in found.items()}
        arrays["column_norms"] = ((*axes, "column"), norms)
        return approximate_points({"": xr.Dataset(arrays, axes)}).quantities["share of points within the bound"]

    assert float(measured(False).value) == 1.0
    assert float(measured(True).value) == 0.75


def test_quantities_are_plain_numbers_and_null() -> None:
    assert exactly(3).plain() == {"value": 3.0, "low": None, "high": None, "seeds": None}
    listed = Quantity(np.array([1.0, np.nan]), np.array([0.5, np.inf]), np.array([2.0, 3.0]), 7)
    assert listed.plain() == {"value": [1.0, None], "low": [0.5, None], "high": [2.0, 3.0], "seeds": 7}


@pytest.mark.parametrize("full", [False, True])
def test_every_claim_of_the_paper_can_be_read(full: bool) -> None:
    found = {claim.name: claim for claim in read_claims(GREEDY, full)}
    assert set(found) == {path.stem for path in GREEDY.glob("*.yaml") if "\nclaim:" in path.read_text()}
    assert {claim.claim.check for claim in found.values()} == set(CHECKS)
    for name, claim in found.items():
        assert (claim.paper, claim.folder) == ("greedy_pruning", GREEDY)
        assert claim.check is CHECKS[claim.claim.check]
        assert f"python -m launch.claims --claim {name}" in (GREEDY / f"{name}.yaml").read_text()
        assert set(claim.grids) == {"", *claim.claim.grids, *(claim.claim.full_grids if full else {})}
    spare = found["convergence"].grids["never pruned"]
    assert spare.values["train.penalty"].values == (0.0,)
    assert spare.values["train.rate"] == found["convergence"].grids[""].values["train.rate"]


def test_the_full_size_changes_every_grid_and_adds_its_own(tmp_path: Path) -> None:
    grids = {"never pruned": {"train": {"penalty": 0}}}
    full = {"full": {"problem": {"dim": 9}}, "full_grids": {"wide": {"problem": {"width": 20}}}}
    folder = write(tmp_path, grids=grids, **full)
    (small,), (large,) = read_claims(folder, False), read_claims(folder, True)
    assert [small.grids[name].values["problem.dim"].values for name in ("", "never pruned")] == [(6,), (6,)]
    assert set(large.grids) == {"", "never pruned", "wide"}
    assert {config.values["problem.dim"].values for config in large.grids.values()} == {(9,)}
    assert large.grids["never pruned"].values["train.penalty"].values == (0.0,)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"check": "rooot_law"}, r"^small\.yaml: claim\.check: no check rooot_law; did you mean root_law\?$"),
        (
            {"grids": {"other": {"train": {"rte": 1}}}},
            r"^small\.yaml: train\.rte: system sensing has no such field; did you mean train\.rate\?$",
        ),
        ({"grids": {"other": {"train": 1}}}, r"^small\.yaml: train: a section holds fields, not 1"),
        ({"expect": {}, "sentence": "s"}, r"^small\.yaml: claim\.sentence: unknown field"),
    ],
)
def test_a_claim_that_cannot_be_run_is_refused_by_file_and_field(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(Refusal, match=line):
        read_claims(write(tmp_path, **changes), False)


RECORD = {
    "claim": "width",
    "source": "paper",
    "first_seed": 1000,
    "seed_offset": 5,
    "kind": "law",
    "kinds": {"a": "law", "b": "regression", "c": "law", "d": "law", "e": "law", "f": "law"},
    "precision": ["float32", "float64"],
    "seconds": 12.3,
    "statement": "Columns do not depend on k.",
    "expected": {
        "a": 2.0,
        "b": [1.0, 2.0],
        "c": {"at_least": None, "at_most": 1e-3},
        "d": {"at_least": 0.5, "at_most": None},
        "e": {"at_least": 0.3, "at_most": 0.49},
        "f": 2.0,
    },
    "tolerance": {"a": 0.1, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.0},
    "measured": {
        "a": {"value": 2.04, "low": 2.0, "high": 2.1, "seeds": 16},
        "b": {"value": [1.0, None], "low": [0.9, None], "high": [1.1, None], "seeds": 16},
        "c": {"value": 1.234e-4, "low": None, "high": None, "seeds": None},
        "d": {"value": 0.75, "low": 0.4, "high": 0.9, "seeds": 20},
        "e": {"value": 0.4, "low": 0.4, "high": 0.4, "seeds": 16},
        "f": {"value": 2.0, "low": None, "high": None, "seeds": 16},
    },
    "verdicts": {"a": "holds", "b": "fails", "c": "holds", "d": "undecided", "e": "holds", "f": "undecided"},
    "deciding_seeds": {"d": 40, "f": None},
    "verdict": "fails",
}


def test_the_table_shows_each_quantity_beside_what_was_expected() -> None:
    first, *rows = table.lines(RECORD).strip().splitlines()
    assert first == "width (paper, float32 and float64, seeds from 1005, 12 s)  Columns do not depend on k."
    assert [" ".join(row.split()) for row in rows] == [
        "a law 2 ± 0.1 2.04 [2, 2.1] (16 seeds) holds",
        "b regression 1 2 1 - ± 0.1 at most (16 seeds) fails",
        "c law at most 0.001 0.000123 (exact) holds",
        "d law at least 0.5 0.75 [0.4, 0.9] (20 seeds) undecided (about 40 seeds decide)",
        "e law 0.3 to 0.49 0.4 (all 16 seeds) holds",
        "f law 2 2 [-, -] (16 seeds) undecided (seeds that decide: unknown)",
    ]
    close = {"value": 1.00042, "low": 0.99981, "high": 1.0006, "seeds": 16}
    assert table.measured_text(close) == "1 [0.9998, 1.001] (16 seeds)"
    where = table.heading().index("verdict")
    assert all(row[where:].split()[0] in ("holds", "fails", "undecided") for row in rows)
    others = [RECORD | {"claim": "figure1", "verdict": "holds"}, RECORD | {"claim": "saddle", "verdict": "undecided"}]
    words = "3 claims: 1 holds, 1 fails (width), 1 undecided (saddle); 37 s"
    assert table.summary([RECORD, *others]).strip() == words


@pytest.mark.parametrize("paper", papers())
def test_claims_are_judged_on_seeds_that_no_pilot_used_and_an_offset_moves_all(paper: str) -> None:
    folder = DEFAULT.parent / paper
    for one, other in zip(read_claims(folder, True), read_claims(folder, True, 5), strict=True):
        for name, config in one.grids.items():
            seeds, moved = (np.asarray(each.values["run.seeds"].values) for each in (config, other.grids[name]))
            assert seeds.min() >= 1000
            assert len(seeds) >= 16
            np.testing.assert_array_equal(moved, seeds + 5)
            assert config.digest() != other.grids[name].digest()


def test_claims_are_judged_written_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One small claim: exit 0 where it holds, 1 where it does not, 2 where it expects what is not measured."""
    folder = write(tmp_path)
    monkeypatch.setattr(command, "CONFIGS", tmp_path)
    out, config = tmp_path / "out", folder / "small.yaml"
    assert command.main(["--claim", "small", "--out", str(out)]) == 0
    (record,) = json.loads((out / "claims.json").read_text())
    assert set(record) == FIELDS
    assert {name: record[name] for name in ("paper", "claim", "source", "verdict")} == {
        "paper": "greedy_pruning",
        "claim": "small",
        "source": "derived",
        "verdict": "holds",
    }
    assert record["measured"]["columns kept"] == {
        "value": [1.0, 1.0],
        "low": [1.0, 1.0],
        "high": [1.0, 1.0],
        "seeds": 2,
    }
    assert (record["precision"], record["seed_offset"]) == (["float64"], 0)
    assert record["expected"] == {"columns kept": [1.0, 1.0], "largest residual": {"at_least": None, "at_most": 1e-3}}
    assert record["config"] == config.read_text()
    assert (out / "claims.html").exists()
    assert (out / "figures" / "small.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "1 claim: 1 holds; " in capsys.readouterr().out

    other = {"columns kept": {"value": [1, 2]}, "largest residual": {"at_most": 1e-3}}
    config.write_text(yaml.safe_dump(SMALL | {"claim": SMALL["claim"] | {"expect": other}}))
    (out / "claims.json").write_text(json.dumps([record, record | {"claim": "another"}]))
    assert command.main(["--out", str(out)]) == 1
    earlier, ours = json.loads((out / "claims.json").read_text())
    assert earlier["claim"] == "another"
    assert ours["verdicts"] == {
        "columns kept": "fails",
        "largest residual": "holds",
    }
    assert len(list((out / "grids").iterdir())) == 1  # the grid is that of the first run
    assert command.main(["--out", str(out), "--seed-offset", "3"]) == 1
    (moved,) = json.loads((out / "offset-3" / "claims.json").read_text())
    assert moved["seed_offset"] == 3
    assert len(json.loads((out / "claims.json").read_text())) == 2

    config.write_text(yaml.safe_dump(SMALL | {"claim": SMALL["claim"] | {"check": "saddle"}}))
    assert command.main(["--out", str(out)]) == 2
    assert "claim.check: saddle cannot measure these grids (" in capsys.readouterr().err

    other["columns lost"] = {"value": 1}
    config.write_text(yaml.safe_dump(SMALL | {"claim": SMALL["claim"] | {"expect": other}}))
    capsys.readouterr()
    assert command.main(["--out", str(out)]) == 2
    refused = capsys.readouterr().err
    assert refused.startswith("error: small.yaml: claim.expect: columns lost ")
    assert refused.count("\n") == 1


@pytest.mark.parametrize(
    "paper",
    [pytest.param(each, marks=[pytest.mark.slow] * (each != "overparameterisation")) for each in papers()],
)
def test_stand_ins_of_results_measure_what_the_results_do(paper: str) -> None:
    """The names that every check gives of numbers made up are those recorded of its last run."""
    names = rehearsal.recorded(command.CONFIGS / paper / "claims.json")
    for claim in read_claims(command.CONFIGS / paper, full=False):
        if not absent(claim) and claim.name != "diabetes":  # half a minute of cross-validation
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as commands have them
                measured = rehearsal.names_measured(claim)
            assert set(measured) == names[claim.name]


def test_a_claim_whose_extra_is_not_installed_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write(tmp_path, extra="mnist")
    monkeypatch.setattr(command, "CONFIGS", tmp_path)
    monkeypatch.setitem(EXTRAS, "mnist", "a_package_that_nobody_has")
    assert command.main(["--out", str(tmp_path / "out")]) == 0
    (record,) = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert set(record) == FIELDS
    assert (record["verdict"], record["measured"], record["verdicts"]) == ("skipped", {}, {})
    assert not (tmp_path / "out" / "grids").exists()
    said = capsys.readouterr().out
    assert 'small: skipped, since a_package_that_nobody_has is not installed; run pip install "gpsense[mnist]"' in said
    assert "1 claim: 1 skipped (small); 0 s" in said


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--paper", "gredy_pruning"], "--paper: no claims of gredy_pruning; did you mean greedy_pruning?"),
        (["--claim", "widht"], "--claim: no claim widht; did you mean width?"),
        (["--seed-offset", "-3"], "--seed-offset: '-3' is not a whole number; use a whole number 0 or more"),
        (["--seed-offset", "4294967000"], "approximate_points.yaml: --seed-offset: moves seeds beyond 4294967295"),
    ],
)
def test_unknown_names_are_refused_in_one_line(argv: list[str], line: str, tmp_path: Path, capsys: Any) -> None:
    assert command.main([*argv, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {line}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.slow
def test_the_command_runs_a_claim_of_the_paper(process: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    ran = process(
        ["-m", "launch.claims"], ["--paper", "greedy_pruning", "--claim", "plain_lasso", "--out", "o"], tmp_path
    )
    out, err = ran.communicate(timeout=120)
    assert (ran.returncode, err) == (0, "")
    (record,) = json.loads((tmp_path / "o" / "claims.json").read_text())
    assert record["verdict"] == "holds"
    assert record["measured"]["from the smallest start, group_lasso"]["value"] == 0
    assert (tmp_path / "o" / "figures" / "plain_lasso.png").exists()
    assert "plain_lasso (derived, " in out


def test_a_law_has_the_colour_of_what_it_is_about_and_one_line_in_the_legend() -> None:
    _, (axes,) = drawing.panels(1)
    for index in range(3):
        drawing.law(axes, [1, 2], [index, 1], "s = mu" if index == 0 else "", colour=index)
    drawing.law(axes, [1, 2], [3, 3], "the mean")
    assert axes.get_legend_handles_labels()[1] == ["s = mu, each in its colour", "the mean"]
    drawn = [line.get_color() for line in axes.lines if len(np.asarray(line.get_xdata()))]
    assert drawn == [*drawing.PALETTE[:3], "black"]


def test_statements_have_greek_letters_beside_figures() -> None:
    said = "For tau < mu_r, eta and lambda/4 (sigma sqrt(2d/n)); the number, beta-like menus stay."
    assert greek(said) == "For τ < μ_r, η and λ/4 (σ sqrt(2d/n)); the number, β-like menus stay."
    figure, _ = drawing.panels(1)
    drawing.finish(figure, "name", "s + (lambda/4) psi(s) = mu")
    assert figure.get_supxlabel() == "s + (λ/4) ψ(s) = μ"
