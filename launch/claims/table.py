"""The table of claims as a terminal shows it."""

import textwrap
from collections import Counter
from typing import Any

WIDTHS = (45, 20, 42, 7)


def heading() -> str:
    """The titles of the columns."""
    return _row("quantity", "expected", "measured [95 % interval]", "verdict")


def lines(record: dict[str, Any]) -> str:
    """A claim: its name, whose it is, the statement, and one line for each quantity."""
    head = f"{record['claim']} ({record['source']}, {record['seconds']:.0f} s)  {record['statement']}"
    wrapped = textwrap.fill(head, sum(WIDTHS) + 6, subsequent_indent="    ")
    rows = []
    for name, measured in record["measured"].items():
        checked = name in record["expected"]
        wanted = _expected(record["expected"][name], record["tolerance"][name]) if checked else "-"
        rows.append(_row("  " + name, wanted, _measured(measured), record["verdicts"].get(name, "-")))
    return "\n".join(["", wrapped, *rows])


def summary(records: list[dict[str, Any]]) -> str:
    """How many hold, how many fail, and how long it took."""
    counts = Counter(record["verdict"] for record in records)
    words = ", ".join(f"{count} {'hold' if verdict == 'holds' else 'fail'}" for verdict, count in counts.items())
    failed = [record["claim"] for record in records if record["verdict"] == "fails"]
    ending = f" ({', '.join(failed)})" if failed else ""
    title = "claims" if len(records) > 1 else "claim"
    return f"\n{len(records)} {title}: {words}{ending}; {sum(record['seconds'] for record in records):.0f} s"


def _row(*cells: str) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _expected(expected: Any, within: float) -> str:
    if isinstance(expected, dict):
        low, high = expected["at_least"], expected["at_most"]
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        return f"at most {high:g}" if low is None else f"at least {low:g}"
    return number(expected) + (f" ± {within:g}" if within else "")


def _measured(measured: dict[str, Any]) -> str:
    text = number(measured["value"])
    if measured["low"] is None:
        return text
    low, high = measured["low"], measured["high"]
    if isinstance(low, list):
        widths = [b - a for a, b in zip(low, high, strict=True) if None not in (a, b)]
        return f"{text} (± {max(widths) / 2:.2g} at most)" if widths else text
    return f"{text} [{number(low)}, {number(high)}]"


def number(value: Any) -> str:
    """A number to three digits, or several."""
    if isinstance(value, list):
        return " ".join(number(each) for each in value)
    return "-" if value is None else f"{value:.3g}"
