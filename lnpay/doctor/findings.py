"""The result of a check: one line for each thing it examined."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"  # not right, or unknown; money and orders are safe for now
    FAIL = "fail"  # broken: orders, messages or refunds fail, or soon will


@dataclass(frozen=True)
class Finding:
    """One line. name: a stable identifier. message: what was found. advice: what to do; empty if nothing.

    Message and advice are for people and hold no secret.
    """

    name: str
    verdict: Verdict
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Verdict.OK, message)


def warn(name: str, message: str, advice: str) -> Finding:
    """Something to look into."""
    return Finding(name, Verdict.WARN, message, advice)


def fail(name: str, message: str, advice: str) -> Finding:
    """Something to fix now."""
    return Finding(name, Verdict.FAIL, message, advice)


def cannot_tell(name: str, why: str, advice: str) -> Finding:
    """The check could not be completed."""
    return warn(name, f"cannot tell: {why}", advice)
