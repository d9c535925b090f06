"""A field declared once: what its annotation says, what is refused, and in which words."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpsense
from gpsense._types import ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import (
    FLAG,
    NAME,
    NUMBER,
    NUMBERS,
    OTHER,
    WHOLE,
    WHOLES,
    Field,
    Traced,
    arguments_named,
    check_fields,
    check_key,
    declared,
    nearest,
    shown,
    unknown_name,
)

COLOURS = {"red": 1, "green": 2, "Blue": 3}


def _even(value: Any) -> None:
    if value % 2:
        raise BadInput("pairs", f"{value} is odd", "use an even number")


@dataclass(frozen=True)
class Things:
    """A field of every kind."""

    dim: Annotated[int, Field("problem", "how many", at_least=1, at_most=9, label="d", unit="things")] = 5
    width: Annotated[int | None, Field("problem", above=0)] = None
    share: Annotated[float, Field("train", above=0, below=1)] = 0.5
    fine_tune_rate: Annotated[float, Field("fine_tune", at_least=0)] = 0.1
    loud: bool = False
    colour: Annotated[str, Field("run", choices=COLOURS, key="paint")] = "red"
    mood: Annotated[str | Callable[[int], int], Field("run", choices=("good", "bad"), accepts=Callable)] = "good"
    word: str = "any"
    layers: Annotated[tuple[int, ...], Field("problem", at_least=1)] = (8, 4)
    spectrum: Annotated[tuple[float, ...] | None, Field("problem", above=0)] = None
    pairs: Annotated[int, Field("problem", verify=_even)] = 2
    hook: Any = None

    def __post_init__(self) -> None:
        check_fields(self)


class Numbers(Traced):
    rate: Annotated[ScalarLike, Field("train", at_least=0)] = 0.1
    kept: Annotated[ScalarLike | None, Field("prune", at_least=1, whole=True)] = None
    matrix: jax.Array | None = None


def test_a_declaration_is_read_from_the_annotation():
    fields = declared(Things)
    assert list(fields) == [
        *("dim", "width", "share", "fine_tune_rate", "loud", "colour", "mood", "word", "layers", "spectrum", "pairs"),
        "hook",
    ]
    kinds = [WHOLE, WHOLE, NUMBER, NUMBER, FLAG, NAME, NAME, NAME, WHOLES, NUMBERS, WHOLE, OTHER]
    assert [field.kind for field in fields.values()] == kinds
    assert [name for name, field in fields.items() if field.optional] == ["width", "spectrum"]
    assert fields["dim"].default == 5
    assert fields["width"].default is None
    assert (fields["dim"].words, fields["share"].words) == ("d", "share")
    assert fields["dim"].dotted == "problem.dim"
    assert fields["fine_tune_rate"].dotted == "fine_tune.rate"
    assert fields["colour"].dotted == "run.paint"
    assert {field.role for field in fields.values()} == {"static"}
    assert fields["loud"].section == "problem"  # of a static field that does not say
    traced = declared(Numbers, "setting")
    assert [(field.kind, field.optional, field.role) for field in traced.values()] == [
        (NUMBER, False, "setting"),
        (NUMBER, True, "setting"),
        (OTHER, True, "setting"),
    ]
    assert traced["matrix"].section == "train"  # of a setting that does not say
    assert declared(Things) is declared(Things)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"dim": "abc"}, "dim: 'abc' is not a whole number; use a whole number from 1 to 9"),
        ({"dim": 5.5}, "dim: 5.5 is not a whole number; use a whole number from 1 to 9"),
        ({"dim": True}, "dim: True is not a whole number; use a whole number from 1 to 9"),
        ({"dim": None}, "dim: None is not a whole number; use a whole number from 1 to 9"),
        ({"dim": 0}, "dim: 0 is not allowed; use a whole number from 1 to 9"),
        ({"dim": 10}, "dim: 10 is not allowed; use a whole number from 1 to 9"),
        ({"dim": np.asarray([5])}, "dim: array([5]) is not a whole number; use a whole number from 1 to 9"),
        ({"pairs": 10**30}, f"pairs: {10**30} is too large (at most {2**63 - 1}); use a whole number"),
        ({"pairs": float("inf")}, "pairs: inf is not a finite number; use a whole number"),
        ({"width": 0}, "width: 0 is not allowed; use a whole number above 0, or leave it out"),
        ({"share": 0}, "share: 0 is not allowed; use a number above 0 and below 1"),
        ({"share": 1.0}, "share: 1.0 is not allowed; use a number above 0 and below 1"),
        ({"share": float("nan")}, "share: nan is not a finite number; use a number above 0 and below 1"),
        ({"share": 1j}, "share: 1j is not a number; use a number above 0 and below 1"),
        ({"loud": 1}, "loud: 1 is neither true nor false; use true or false"),
        ({"colour": "blue"}, "colour: there is no 'blue'; did you mean Blue? use one of red, green, Blue"),
        ({"colour": "mauve"}, "colour: there is no 'mauve'; use one of red, green, Blue"),
        ({"colour": 3}, "colour: 3 is not a name; use one of red, green, Blue"),
        ({"mood": 3}, "mood: 3 is neither a name nor a function; use one of good, bad"),
        ({"word": 3}, "word: 3 is not a name; give a string"),
        ({"layers": 3}, "layers: 3 is not a list of numbers; give whole numbers 1 or more"),
        ({"layers": ()}, "layers: () is not a list of numbers; give whole numbers 1 or more"),
        ({"layers": "12"}, "layers: '12' is not a list of numbers; give whole numbers 1 or more"),
        ({"layers": (8, 0)}, "layers: 0 is not allowed; use a whole number 1 or more"),
        ({"layers": (8, 2.5)}, "layers: 2.5 is not a whole number; use a whole number 1 or more"),
        ({"spectrum": [1.0, -1.0]}, "spectrum: -1.0 is not allowed; use a number above 0, or leave it out"),
        ({"pairs": 3}, "pairs: 3 is odd; use an even number"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, line):
    with pytest.raises(BadInput) as refusal:
        Things(**given)
    assert str(refusal.value) == line
    assert refusal.value.field == next(iter(given))


def test_values_are_stored_as_their_own_type():
    things = Things(
        dim=5.0, width=np.int64(3), share=np.float32(0.5), layers=[8.0, 4], spectrum=jnp.asarray([1.0, 2.0])
    )
    assert (things.dim, things.width, things.layers, things.spectrum) == (5, 3, (8, 4), (1.0, 2.0))
    assert [type(value) for value in (things.dim, things.width, *things.layers)] == [int] * 4
    assert type(things.share) in (float, np.float32)
    assert Things(dim=jnp.asarray(7)).dim == 7
    assert Things(loud=np.bool_(True)).loud is True
    assert Things(mood=abs).mood is abs
    assert hash(things) == hash(Things(width=3, spectrum=(1, 2)))


def test_traced_numbers_are_checked_where_they_are_known():
    for given, line in (
        ({"rate": -0.1}, "rate: -0.1 is not allowed; use a number 0 or more"),
        ({"rate": jnp.asarray([0.1, -0.2])}, "rate: -0.2 is not allowed"),
        ({"rate": np.asarray([0.1, np.nan])}, "rate: nan is not allowed"),
        ({"rate": "0.1"}, "rate: '0.1' is not a number"),
        ({"kept": 1.5}, "kept: 1.5 is not a whole number; use a whole number 1 or more, or leave it out"),
    ):
        with pytest.raises(BadInput) as refusal:
            Numbers(**given)
        assert str(refusal.value).startswith(line)
    assert Numbers(rate=jnp.asarray(0.3)).rate == 0.3
    assert Numbers(kept=2.0).kept == 2.0
    assert jax.jit(lambda rate: Numbers(rate=rate).rate + 1.0)(-0.5) == 0.5  # a tracer passes
    whole = jax.vmap(lambda rate: Numbers(rate=rate))(jnp.asarray([0.1, 0.2]))
    np.testing.assert_array_equal(whole.rate, [0.1, 0.2])


def test_a_new_entry_of_a_registry_is_a_choice_at_once(monkeypatch):
    monkeypatch.setitem(COLOURS, "mauve", 4)
    assert Things(colour="mauve").colour == "mauve"


def test_words_of_refusals():
    assert nearest("Threshhold", ("top_r", "threshold")) == "did you mean threshold?"
    assert nearest("SVD", ("none", "svd")) == "did you mean svd?"
    assert nearest("xyz", ("none", "svd")) == ""
    assert str(unknown_name("rule", 3, ("a", "b"))) == "rule: there is no 3; use one of a, b"
    assert shown(np.float64(0.5)) == "0.5"
    assert shown("a\nb  c") == "'a\\nb c'"
    assert len(shown(list(range(100)))) == 60
    ranges = {
        "from 1 to 9": Field(at_least=1, at_most=9),
        "0 or more": Field(at_least=0),
        "at most 1": Field(at_most=1),
        "above 0": Field(above=0),
        "0 or more and below 1": Field(at_least=0, below=1),
        "": Field(),
    }
    assert [field.range_words() for field in ranges.values()] == list(ranges)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: gpsense.recover({}, ofsets=True), "ofsets: recover has no such argument; did you mean offsets?"),
        (lambda: gpsense.recover({}, Rank=2, seed=1), "Rank: recover has no such argument; did you mean rank?"),
        (
            lambda: gpsense.recover({}, colour=2),
            "colour: recover has no such argument; use one of measurements, values, ",
        ),
        (
            lambda: gpsense.recover(),
            "recover: missing a required argument: 'measurements'; call recover(measurements=...)",
        ),
        (
            lambda: gpsense.recover({}, [1.0], 3),
            "recover: too many positional arguments; call recover(measurements=...)",
        ),
        (
            lambda: gpsense.fit_sparse(1, 2, heldout=0.1),
            "heldout: fit_sparse has no such argument; did you mean held_out?",
        ),
        (
            lambda: gpsense.fit_sparse(1),
            "fit_sparse: missing a required argument: 'y'; call fit_sparse(x=..., y=...) and",
        ),
        (lambda: gpsense.find_tickets(1, 2, 3, seed=4), "seed: find_tickets has no such argument; did you mean seeds?"),
    ],
)
def test_arguments_that_a_function_does_not_have_are_refused_in_one_line(call, line):
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value).startswith(line)


def test_a_function_with_named_arguments_keeps_its_signature_and_its_errors():
    def halved(x: float, *, by: float = 2) -> float:
        """Half of it."""
        return x / by

    named = arguments_named(halved)
    assert (named(3.0), named(x=3.0, by=4)) == (1.5, 0.75)
    assert inspect.signature(named) == inspect.signature(halved)
    assert (named.__name__, named.__doc__) == ("halved", "Half of it.")
    with pytest.raises(TypeError, match="unsupported operand"):
        named("a")  # an error inside stays as it is


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (12, r"12 is not a random key; give a key such as jax.random.key\(0\)"),
        (np.zeros((3, 4)), r"an array of float64, shape \(3, 4\), is not a random key"),
        (
            np.zeros((3, 2), np.uint32),
            r"it is an array of keys, shape \(3, 2\); give one of them, or map over them by jax.vmap",
        ),
    ],
)
def test_what_is_not_one_random_key_is_refused(given, said):
    with pytest.raises(BadInput, match=f"^key: {said}"):
        check_key(given)


def test_a_key_passes_as_numbers_and_traced(key):
    check_key(np.zeros(2, np.uint32))
    jax.eval_shape(jax.vmap(check_key), jax.eval_shape(lambda: jax.random.split(key, 3)))


@pytest.mark.parametrize("module", ["sensing.truths", "sensing.measurements", "theory", "tickets.teacher"])
def test_functions_that_take_a_key_first_refuse_another_argument_there(module):
    """The other arguments are no matter: the key is looked at before them."""
    functions = [inspect.unwrap(each) for each in vars(import_module(f"gpsense.{module}")).values() if callable(each)]
    taking = [
        each for each in functions if inspect.isfunction(each) and [*inspect.signature(each).parameters][:1] == ["key"]
    ]
    assert taking
    for function in taking:
        with pytest.raises(BadInput, match="^key: 12 is not a random key"):
            function(12, *[None] * (len(inspect.signature(function).parameters) - 1))
