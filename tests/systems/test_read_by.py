"""What a field's ``read_by`` declares is what a cell computes: its value enters exactly where another's reads it."""

from dataclasses import fields, replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from jax.interpreters import partial_eval

from gpsense import Schedule, Sensing, SparseFeatures, TeacherStudent
from gpsense.fields import declared
from gpsense.keys import seed_keys
from gpsense.pipeline import run_cell
from tests.systems.least import LeastSquares

SYSTEMS = {
    "sensing": Sensing(dim=4, width=3, rank=1, n=12),
    "sparse_features": SparseFeatures(dim=12, sparsity=3, n=200, test=100, neurons=3, pool=2, biases=2),
    "teacher_student": TeacherStudent(dim=8, neurons=2, support=3, n=20, round_steps=2),
    "least_squares": LeastSquares(dim=4, n=10),
}
SETTINGS = {"teacher_student": {"kept": 0.5, "share": 0.5}}
OTHERS = {"method": 2, "optimizer": 3}  # how many values are tried of a long list
CASES = [
    pytest.param(name, field.name, id=f"{name}-{field.name}")
    for name, system in SYSTEMS.items()
    for role in (system.Data, system.Setting)
    for field in declared(role).values()
    if field.read_by and field.name != "perturbation"  # read where a static flag says so
]


@cache
def entering(name: str, chosen: frozenset[tuple[str, Any]]) -> dict[str, bool]:
    """Whether a result of a cell depends on each of the traced numbers of :data:`CASES`."""
    system = replace(SYSTEMS[name], dtype="float64", **dict(chosen))
    roles = [{each.name for each in fields(role)} for role in (system.Data, system.Setting)]
    tried = {case.values[1]: np.float64(0.5) for case in CASES if case.values[0] == name}

    def cell(values: Any) -> Any:
        numbers = SETTINGS.get(name, {}) | values
        given = [{name: value for name, value in numbers.items() if name in part} for part in roles]
        with jax.numpy_dtype_promotion("standard"):
            problem = system.Data(**given[0]), system.Setting(**given[1])
            return run_cell(system.resolve(1), Schedule(2, 2, 2), *problem, seed_keys(0))

    made = jax.make_jaxpr(cell)(tried).jaxpr
    return dict(zip(sorted(tried), partial_eval.dce_jaxpr(made, [True] * len(made.outvars))[1], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "field"), CASES)
def test_a_field_enters_where_it_is_declared_to_be_read(name: str, field: str) -> None:
    system = SYSTEMS[name]
    known = {**declared(system.Data, "data"), **declared(system.Setting, "setting"), **declared(type(system))}
    one = known[field]
    readers = [by for by in one.read_by if by.field in known]
    able = {by.field: next(v for v in known[by.field].choices or () if by.reads(v)) for by in readers}
    for by in readers:
        choices = list(known[by.field].choices or ())
        tried = [*filter(by.reads, choices)][:2] + [c for c in choices if not by.reads(c)][: OTHERS.get(by.field)]
        for value in tried:
            chosen = able | {by.field: value}
            assert entering(name, frozenset(chosen.items()))[field] == by.reads(value), (by.field, value)
