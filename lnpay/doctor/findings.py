"""What a check says: one line for each thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"  # not as it should be, or not known; money and orders are safe for now
    FAIL = "fail"  # broken: orders, messages or refunds do not get through, or soon will not


@dataclass(frozen=True)
class Finding:
    """One line. name: a stable word. message: what was seen. advice: what to do, empty when nothing is.

    Both are for people and hold no secret.
    """

    name: str
    verdict: Verdict
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Verdict.OK, message)


def warn(name: str, message: str, advice: str) -> Finding:
    """Something to look at."""
    return Finding(name, Verdict.WARN, message, advice)


def fail(name: str, message: str, advice: str) -> Finding:
    """Something to fix now."""
    return Finding(name, Verdict.FAIL, message, advice)


def cannot_tell(name: str, why: str, advice: str) -> Finding:
    """Nothing was seen."""
    return warn(name, f"cannot tell: {why}", advice)
