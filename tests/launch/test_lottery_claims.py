"""What the claims of lottery tickets make of masks and rounds whose answers are known; every grid is planned."""

import numpy as np
import pytest
import xarray as xr

from gpsense.grid import collect, make_plan
from launch.claims import quantities
from launch.claims.experiment import Experiment, caveat, read_claims
from launch.claims.lottery_ticket import CHECKS
from launch.claims.lottery_ticket.tickets import rounds
from launch.claims.quantities import Quantity
from launch.config import DEFAULT, Config
from launch.work import to_grid
from tests.reference_claims import dataset, outcome, over, value, without_mnist

CLAIMS = read_claims(DEFAULT.parent / "lottery_ticket", full=False)
K = 5


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantities, "RESAMPLES", 20)
    without_mnist(monkeypatch)


def test_most_over_fewest_kept_in_whatever_order_they_are_given() -> None:
    n, accuracy, kept, names = [200, 2000], [0.5, 1.0], [0.8, 0.2, 0.4], ("n", "accuracy", "kept")
    error = over(lambda count, right, share: 1.5 - right + share, n, accuracy, kept)
    risk = over(lambda count, right, share: (1.1 - right) * share ** (1 if count == 200 else -0.5), n, accuracy, kept)
    axes = {"n": n, "accuracy": accuracy, "kept": kept}
    cells = dataset(axes, {"neurons": K}, error=(names, error), risk=(names, risk))
    names = ("n", "kept")
    parts = {"error": (names, error[:, 0]), "risk": (names, risk[:, 0]), "mask_accuracy": (names, [kept, kept])}
    runs = {"": cells, "grasp": dataset({"n": n, "kept": kept}, {"accuracy": 1.0}, **parts)}
    found = outcome("wrong_masks", runs)
    assert value(found, "error, most over fewest kept, N = 200, accuracy 0.5") == pytest.approx(1.8 / 1.2)
    assert value(found, "risk, most over fewest kept, N = 200, accuracy 0.5") == pytest.approx(4)
    assert value(found, "risk, most over fewest kept, N = 2000, accuracy 0.5") == pytest.approx(0.5)
    assert value(found, "risk, most over fewest kept, N = 2000, GraSP") == pytest.approx(0.5)
    np.testing.assert_allclose(value(found, "accuracy of GraSP's masks, N = 200"), [0.2, 0.4, 0.8])


@pytest.mark.parametrize("every", [50, 100, 200])
def test_rounds_are_counted_from_the_steps_however_often_there_are_records(every: int) -> None:
    steps = np.arange(0, 701, every)
    scalars = {"round_steps": 100, "share": 0.2, "kept": 0.3}
    cells = dataset({"step": steps}, scalars, error_curve=(("step",), steps))
    kept, errors = rounds(cells)
    ends = errors.values[0]
    expected = [max(0.8 ** (int(end) // 100 - 1), 0.3) for end in ends]
    np.testing.assert_array_equal(ends, [end for end in range(100, 701, 100) if end % every == 0])
    np.testing.assert_allclose(kept, expected)


def test_the_best_round_of_tickets_is_the_sparsest_of_equal_ones() -> None:
    n, ends = [200, 800], np.arange(0, 13 * 500 + 1, 500)
    errors = np.empty((2, len(ends)))
    errors[0] = 0.5 - 0.05 * np.minimum(
        ends / 500, 8
    )  # falls until the end of the eighth round, the teacher's sparsity
    errors[1] = 1e-6 * (1 + ends)  # below what counts as success, the first the least
    errors[1, ends <= 4000] *= 1e-2
    errors[0, ends > 4000], errors[1, ends > 4000] = 0.3, 0.2
    scalars = {"round_steps": 500, "share": 0.2, "kept": 0.0687, "support": 20, "dim": 100}
    cells = dataset({"n": n, "step": ends}, scalars, error_curve=(("n", "step"), errors))
    found = outcome("iterative_teacher", {"": cells})
    for count in n:
        assert value(found, f"best share pruned, N = {count}") == pytest.approx(1 - 0.8**7)
    assert value(found, "best over dense, N = 200") == pytest.approx(0.1 / 0.45)
    assert value(found, "best over dense, N = 800") == 1
    assert value(found, "error two rounds past the truth, N = 800") == pytest.approx(0.2)


def test_tickets_on_images_against_the_others() -> None:
    ends, rules = np.arange(0, 6801, 400), ["iterative_magnitude", "magnitude"]
    path = np.where(ends <= 4400, 0.04, 0.06)
    parts = {"error_curve": (("rule", "step"), [path, path + 0.5]), "error": (("rule",), [0.06, 0.3])}
    parts["error_trained"] = (("rule",), [0.06, 0.03])
    scalars = {"round_steps": 400, "share": 0.2, "kept": 0.0281}
    others = ["random", "snip", "grasp", "synflow"]
    runs = {
        "": dataset({"rule": rules, "step": ends}, scalars, **parts),
        "redraw": dataset({}, {"rule": "iterative_magnitude"}, error=((), 0.2)),
        "others": dataset({"rule": others}, {}, error=(("rule",), [0.7, 0.1, 0.12, 0.09])),
    }
    found = outcome("images", runs)
    for name, percent in {
        "dense": 96,
        "dense, trained as long as the others": 97,
        "iterative, 11 % kept": 96,
        "iterative less dense, 11 % kept": 0,
        "iterative, 2.8 % kept": 94,
        "iterative, drawn anew, 2.8 % kept": 80,
        "iterative less one shot, 2.8 % kept": 24,
        "iterative less random, 2.8 % kept": 64,
        "iterative less the best of the others, 2.8 % kept": 3,
    }.items():
        assert value(found, name) == pytest.approx(percent, abs=1e-9), name


def test_networks_are_stopped_where_the_validation_loss_is_least() -> None:
    """Two rounds of a ticket and of its mask drawn anew, records every 10 of 30 steps."""
    steps = np.arange(0, 121, 10)
    losses = [9, 3, 1, 2, 3, 2, 1, 1, 2, 3, np.nan, 0.5, 0.25]
    errors = [0.9, 0.3, 0.1, 0.2, 0.5, 0.4, 0.3, 0.05, 0.3, 0.3, 0.8, 0.7, 0.6]
    parts = {"error_curve": (("step",), errors), "validation_curve": (("step",), losses)}
    parts |= {"rank": ((), 250.0), "kept_share": ((), 0.25)}
    scalars = {"round_steps": 30, "share": 0.5, "n": 200}
    shares = {"kept": [0.5], "step": [0, 10, 20, 30]}
    curves = {"error_curve": (("kept", "step"), [errors[:4]]), "validation_curve": (("kept", "step"), [losses[:4]])}
    random = dataset(shares, {"phase": ("step", ["train"] + ["fine_tune"] * 3)}, **curves).assign_attrs(train_steps=0)
    found = outcome("lenet", {"": dataset({"step": steps}, scalars, **parts), "random": random})
    for name, number in {
        "dense": 90,
        "steps of the dense network": 20,
        "ticket less dense, 50 % kept": 5,
        "drawn anew less dense, 50 % kept": -50,
        "ticket less drawn anew, 50 % kept": 55,
        "steps of the ticket over dense, 50 % kept": 0.5,
        "steps drawn anew over ticket, 50 % kept": 3,
        "random less dense, 50 % kept": 0,
        "drawn anew less random, 50 % kept": -50,
        "samples by the law of masked networks over those used, 50 % kept": 1.2 * 500 / 200,
    }.items():
        assert value(found, name) == pytest.approx(number), name
    both = ("kept", "step")
    parts = {"error_curve": (both, [errors[:7]]), "validation_curve": (both, [losses[:7]])}
    phases = ("step", ["train"] * 4 + ["fine_tune"] * 3)
    once = dataset({"kept": [0.5], "step": steps[:7]}, {"phase": phases}, **parts).assign_attrs(train_steps=30)
    found = outcome("lenet_one_shot", {"": once})
    assert value(found, "one shot less dense, 50 % kept") == pytest.approx(-20)
    assert value(found, "steps of the ticket over dense, 50 % kept") == pytest.approx(1.5)


def test_starts_by_their_slope() -> None:
    n, starts = np.asarray([500, 2000, 8000]), ["tensor", "gaussian"]
    begun = over(lambda start, count: 10 * count**-0.5 if start == "tensor" else 1.2, starts, n)
    success = over(lambda start, count: count > (0 if start == "tensor" else 500), starts, n)
    parts = {"error_pruned": (("start", "n"), begun), "success": (("start", "n"), success)}
    cells = dataset({"start": starts, "n": n}, {}, **parts)
    cells["success"][0, 0, 0] = np.nan
    found = outcome("starts", {"": cells})
    assert value(found, "slope in n of the start's error") == pytest.approx(-0.5)
    np.testing.assert_allclose(value(found, "share that finds the teacher, tensor method"), [0.8, 1, 1])
    np.testing.assert_allclose(value(found, "share that finds the teacher, random"), [0, 1, 1])
    np.testing.assert_allclose(value(found, "error of the start, random"), 1.2)


def arrays(config: Config) -> xr.Dataset:
    """A grid as its config lays it out, every measure of the system made up."""
    grid, rng = to_grid(config), np.random.default_rng(0)
    plan = make_plan(grid, 8 * 2**30)
    points = sum(len(part) for part in grid.schedule.recorded_steps())
    names = [name for name in grid.system.measures if not name.endswith("_curve")] + ["status"]
    parts = []
    for chunk in plan.chunks:
        shape = (chunk.outer_stop - chunk.outer, chunk.inner_stop - chunk.inner)
        made = {name: rng.uniform(0.2, 0.4, shape) for name in names}
        for curve in (name for name in grid.system.measures if name.endswith("_curve")):
            made[curve] = 0.1 * rng.uniform(0.9, 0.95, (*shape, 1)) ** np.arange(0, 4 * points, 4)
        parts.append((chunk, made))
    return collect(plan, parts)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_expects_what_its_check_measures_of_its_grids(
    claim: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantities, "RESAMPLES", 2)
    runs = {name: arrays(config) for name, config in claim.grids.items()}
    found: dict[str, Quantity] = claim.check(runs).quantities
    assert set(claim.claim.expect) <= set(found)
    for name, expected in claim.claim.expect.items():
        if expected.value is not None:
            assert np.shape(expected.value) == found[name].value.shape
    more = [int(cells["status"].size) for name, cells in runs.items() if name]
    words = (claim.folder / f"{claim.name}.yaml").read_text().split("TIME")[0]
    assert not more or f"and {sum(more)} more in" in words


def test_all_checks_have_a_claim_and_the_caveat_says_what_is_recalled() -> None:
    assert {claim.claim.check for claim in CLAIMS} == set(CHECKS)
    assert "recalled" in caveat("lottery_ticket")
