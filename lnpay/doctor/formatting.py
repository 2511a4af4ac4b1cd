"""Format durations for the doctor's findings."""

from __future__ import annotations

from datetime import timedelta

from lnpay.domain.text import counted


def in_words(length: timedelta) -> str:
    """A length of time: "40 seconds", "5 minutes", "3 hours", "2 days"."""
    seconds = round(abs(length.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return counted(seconds, "second")
