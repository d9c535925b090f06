"""Formats claims as a table for a terminal."""

import re
import textwrap
from typing import Any

from launch.claims.expectations import EXTRAS

WORDS = {"holds": "hold", "fails": "fail", "undecided": "undecided", "skipped": "skipped"}
GREEK = {"lambda": "λ", "beta": "β", "gamma": "γ", "eps": "ε", "epsilon": "ε", "eta": "η", "mu": "μ", "nu": "ν"}
GREEK |= {"sigma": "σ", "tau": "τ", "psi": "ψ", "phi": "φ"}
WIDTHS = (44, 10, 18, 34, 9)


def greek(text: str) -> str:
    """The text with Greek letters in place of their names, as in figures and in the names of quantities."""
    return re.sub(rf"(?<![A-Za-z])({'|'.join(GREEK)})(?![A-Za-z])", lambda found: GREEK[found[1]], text)


def heading() -> str:
    """The titles of the columns."""
    return _row("quantity", "kind", "expected", "measured [95 % interval]", "verdict")


def lines(record: dict[str, Any]) -> str:
    """The lines of one claim: its name, facts and statement, then one line per quantity."""
    if record["verdict"] == "skipped":
        return f"\n{record['claim']}: skipped, {remedy(record['extra'])}"
    head = f"{record['claim']} ({facts(record)})  {record['statement']}"
    rows = []
    for name, measured in record["measured"].items():
        checked = name in record["expected"]
        wanted = expected_text(record["expected"][name], record["tolerance"][name]) if checked else "-"
        cells = "  " + name, record["kinds"].get(name, "-"), wanted, measured_text(measured)
        rows.append(_row(*cells, verdict_text(record, name)))
    return "\n".join(["", textwrap.fill(head, 120, subsequent_indent="    "), *rows])


def remedy(extra: str) -> str:
    """Why a claim is skipped if the package with its data is not installed, and the command that installs it."""
    return f'since {EXTRAS[extra]} is not installed; run pip install "gpsense[{extra}]"'


def facts(record: dict[str, Any]) -> str:
    """The source of a claim, its precision, the first seed where it is not 0, and the time it took."""
    first = record["first_seed"] + record["seed_offset"]
    seeds = [f"seeds from {first}"] if first else []
    return ", ".join([record["source"], " and ".join(record["precision"]), *seeds, f"{record['seconds']:.0f} s"])


def summary(records: list[dict[str, Any]]) -> str:
    """How many claims hold, fail, are undecided or skipped, which of them do not hold, and how long they took."""
    return f"\n{counts(records)}; {sum(record['seconds'] for record in records):.0f} s"


def counts(records: list[dict[str, Any]]) -> str:
    """How many claims hold, fail, are undecided or skipped, and which of them do not hold."""
    words = []
    for verdict, word in WORDS.items():
        names = [record["claim"] for record in records if record["verdict"] == verdict]
        if names:
            word = verdict if len(names) == 1 else word
            words.append(f"{len(names)} {word}" + (f" ({', '.join(names)})" if verdict != "holds" else ""))
    title = "claims" if len(records) != 1 else "claim"
    return f"{len(records)} {title}: {', '.join(words)}"


def _row(*cells: str) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def expected_text(expected: Any, within: float) -> str:
    """The text of what a quantity must be: a value and the allowed distance from it, or bounds."""
    if isinstance(expected, dict):
        low, high = expected["at_least"], expected["at_most"]
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        return f"at most {high:g}" if low is None else f"at least {low:g}"
    return number(expected) + (f" ± {within:g}" if within else "")


def measured_text(measured: dict[str, Any]) -> str:
    """The text of a measured quantity: value, interval and number of seeds; or that it is exact, or all seeds agree.

    Three digits, or up to six where the value and the ends of its interval need them to differ.
    """
    text, low, high, seeds = (measured[name] for name in ("value", "low", "high", "seeds"))
    text = number(text)
    if low is None and high is None and seeds is None:
        return f"{text} (exact)"
    if low == high == measured["value"]:
        return f"{text} (all {seeds} seeds)"
    if isinstance(low, list):
        widths = [b - a for a, b in zip(low, high or low, strict=True) if None not in (a, b)]
        return f"{text} ± {max(widths) / 2:.2g} at most ({seeds} seeds)" if widths else f"{text} ({seeds} seeds)"
    several = [each for each in (measured["value"], low, high) if each is not None]
    digits = next((d for d in range(3, 7) if len({number(each, d) for each in several}) == len(several)), 6)
    return "{} [{}, {}] ({} seeds)".format(*(number(each, digits) for each in (measured["value"], low, high)), seeds)


def verdict_text(record: dict[str, Any], name: str) -> str:
    """The verdict on a quantity; where undecided, with the number of seeds that would decide it."""
    word = record["verdicts"].get(name, "-")
    if word != "undecided":
        return word
    seeds = record["deciding_seeds"][name]
    return f"undecided (about {seeds} seeds decide)" if seeds else "undecided (seeds that decide: unknown)"


def number(value: Any, digits: int = 3) -> str:
    """The text of a number, or of a list of numbers, to ``digits`` significant digits; - for None."""
    if isinstance(value, list):
        return " ".join(number(each, digits) for each in value)
    return "-" if value is None else f"{value:.{digits}g}"
