"""The chart of the last days: the position and height of each bar, in whole units of the drawing.

Payments are above the line, those in time with the late ones stacked on top; refunds are below it, at the same scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lnpay.monitoring.overview import Day
from lnpay.repository.queries.searches import InvoiceTotal

HEIGHT = 1_000
WIDTH_OF_DAY = 100
BAR = 70
SMALLEST = 8
"""The height of the smallest bar that is not zero, so that it can be seen."""


@dataclass(frozen=True)
class Bar:
    """One bar: what it counts, and its rectangle."""

    kind: str
    x: int
    y: int
    height: int


@dataclass(frozen=True)
class Chart:
    """A drawing `width` wide and HEIGHT high. line: the height of zero. most: the value of the highest bar."""

    width: int
    line: int
    most: int
    bars: list[Bar]


def draw(days: Sequence[Day], measure: Callable[[InvoiceTotal], int]) -> Chart:
    """Draw `days`; `measure` selects counts or sats."""
    most_in = max((measure(day.paid) + measure(day.late) for day in days), default=0)
    most_out = max((measure(day.refunded) for day in days), default=0)
    total = max(1, most_in + most_out)
    # A little room above and below, because the smallest bars are drawn higher than their value.
    room = HEIGHT - 4 * SMALLEST
    line = 3 * SMALLEST + room * most_in // total if most_out else HEIGHT - SMALLEST

    def height(amount: int) -> int:
        return max(SMALLEST, room * amount // total) if amount else 0

    bars = []
    for number, day in enumerate(days):
        x = number * WIDTH_OF_DAY + (WIDTH_OF_DAY - BAR) // 2
        paid, late, refunded = (height(measure(one)) for one in (day.paid, day.late, day.refunded))
        bars += [
            Bar("paid", x, line - paid, paid),
            Bar("late", x, line - paid - late, late),
            Bar("refunded", x, line + SMALLEST // 2, refunded),
        ]
    return Chart(len(days) * WIDTH_OF_DAY, line, most_in, [bar for bar in bars if bar.height])
