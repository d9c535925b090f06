"""What the claims of sparse features make of energies: crossings, slopes, laws; one claim from config to verdict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from gpsense import theory
from gpsense.sparse.hermite import link
from launch.claims import __main__ as command
from launch.claims.experiment import caveat
from launch.claims.sparse_features import risks, samples
from launch.claims.sparse_features.samples import Curve, crossing
from launch.config import DEFAULT

N = np.asarray([100.0, 300, 1000, 3000, 10_000, 30_000])


def energies(half: float, seeds: int = 8, spread: float = 0.0) -> np.ndarray:
    """``n / (n + n50)`` with n50 spread over the seeds, an odd number of them keeping its median."""
    factors = np.exp(spread * np.linspace(-1, 1, seeds + 1))[:, None]
    return N / (N + half * factors)


@pytest.mark.parametrize("half", [150.0, 1000.0, 7777.0])
def test_a_crossing_is_exact_where_the_law_is(half: float) -> None:
    assert crossing(N, energies(half)) == pytest.approx(half, rel=1e-9)
    assert crossing(N, energies(half, spread=0.3)) == pytest.approx(half, rel=1e-9)


def test_no_crossing_is_not_a_number() -> None:
    assert np.isnan(crossing(N, energies(1e6)))
    assert np.isnan(crossing(N, energies(10.0)))


def test_slopes_over_dimensions_with_their_own_samples_and_seeds() -> None:
    curves = [Curve(dim, N, energies(2.0 * dim**1.5, seeds, 0.1)) for dim, seeds in ((20, 8), (60, 6), (180, 4))]
    found = samples.slope(curves)
    assert found.low is not None
    assert found.high is not None
    assert float(found.value) == pytest.approx(1.5)
    assert 1.4 < float(found.low) <= 1.5 <= float(found.high) < 1.6
    np.testing.assert_allclose(samples.over_law(curves, np.asarray([2.0 * c.dim**1.5 for c in curves])).value, 1.0)


def test_the_difference_of_slopes_has_an_interval_over_the_seeds_of_both() -> None:
    def curves(power: float, seeds: int) -> list[Curve]:
        return [Curve(dim, N, energies(40.0 * dim**power, seeds, 0.2)) for dim in (16, 64)]

    apart, paired = (samples.slope_less(curves(1.5, 8), curves(0.5, seeds)) for seeds in (6, 8))
    for found in (apart, paired):
        assert found.low is not None
        assert found.high is not None
        assert float(found.value) == pytest.approx(1.0)
    assert 0.6 < float(apart.low) < 1 < float(apart.high) < 1.4  # pyright: ignore[reportArgumentType]
    assert [float(paired.low), float(paired.high)] == pytest.approx([1, 1])  # pyright: ignore[reportArgumentType]


def cells(rule: list[str], dims: list[int], half: Any) -> xr.Dataset:
    """A dataset as a grid gives it."""
    found = np.asarray([[energies(half(r, d)) for d in dims] for r in rule])
    coords = {"rule": rule, "dim": dims, "n": N, "method": "greedy_pruning", "parity": "both", "noise": 0.0}
    dataset = xr.Dataset({"energy": (("rule", "dim", "seed", "n"), found)}, coords | {"activation": "relu"})
    return dataset.assign_attrs(link=[0.0, 1.0])


def test_the_check_of_sample_numbers() -> None:
    law = lambda d: float(theory.unpruned_samples(link([0.0, 1.0]), d))  # noqa: E731
    runs = {"": cells(["gradient", "none"], [16, 32, 64], lambda r, d: 500.0 if r == "gradient" else law(d))}
    quantities, figure = samples.samples(runs)
    assert float(quantities["slope, unpruned"].value) == pytest.approx(2.0)
    assert float(quantities["slope, pruned"].value) == pytest.approx(0.0, abs=1e-9)
    assert float(quantities["slope, unpruned less pruned"].value) == pytest.approx(2.0)
    np.testing.assert_allclose(quantities["unpruned over its law"].value, 1.0, rtol=1e-6)
    labels = figure.axes[1].get_legend_handles_labels()[1]
    assert "law of the unpruned step" in labels
    assert "CSQ slope 1 without sparsity" in labels


def test_what_training_densely_costs_is_counted_and_compared_seed_by_seed() -> None:
    def scheme(method: str, before: int, kept: list[int], error: list[float]) -> xr.Dataset:
        measures = {"rank": kept, "error": error, "error_pruned": [0.1, 0.2, 0.4], "error_trained": [1.0] * 3}
        measures |= {"steps_train": [before] * 3, "steps_fine_tune": [200] * 3}
        scalars = {"dim": 64, "neurons": 10, "biases": 4, "parity": "both", "method": method}
        return xr.Dataset({name: (("seed",), np.asarray(each, float)) for name, each in measures.items()}, scalars)

    pruned, dense = (
        scheme("greedy_pruning", 0, [20, 30, 25], [0.01, 0.02, 0.04]),
        scheme("descent", 200, [30, 30, 30], [0.03, 0.02, 0.05]),
    )
    step = 12 * 10
    np.testing.assert_allclose(risks.operations(pruned), [8 * 2 * 64**2 + 201 * step * kept for kept in (20, 30, 25)])
    np.testing.assert_allclose(risks.operations(dense), 200 * step * (64 + 30))
    quantities, _ = risks.general_scheme({"": pruned, "dense": dense})
    assert float(quantities["cost of dense over pruned at the start"].value) == pytest.approx(
        200 * step * 94 / (8 * 2 * 64**2 + 201 * step * 25)
    )
    assert float(quantities["risk, dense less pruned at the start"].value) == pytest.approx(0.01)
    assert float(quantities["risk, fine-tuned over one step"].value) == pytest.approx(0.1)


def test_the_caveat_stands_beside_the_verdicts() -> None:
    assert "CSQ" in caveat("sparse_features")
    assert caveat("greedy_pruning") == ""


@pytest.mark.slow
def test_a_claim_from_config_to_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = yaml.safe_load((DEFAULT.parent / "sparse_features" / "parity_split.yaml").read_text())
    fields["run"] = {"seeds": 4}
    (tmp_path / "sparse_features").mkdir()
    (tmp_path / "sparse_features" / "parity_split.yaml").write_text(yaml.safe_dump(fields))
    monkeypatch.setattr(command, "CONFIGS", tmp_path)
    assert command.main(["--paper", "sparse_features", "--out", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 claim: 1 holds" in printed
    assert "Slopes are claimed, not constants" in printed
    assert (tmp_path / "out" / "figures" / "parity_split.png").exists()
