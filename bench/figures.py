"""What a bench gives, and how it is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One measured figure. `floor` is what `floor_name` took in the same run, in the same unit."""

    name: str
    value: float
    unit: str
    floor: float
    floor_name: str
    aim: str = ""
    is_met: bool | None = None

    @property
    def ratio(self) -> float:
        """The figure in floors: unlike the figure, much the same on every machine."""
        return self.value / self.floor


def take_turns(rounds: int, *tasks: Callable[[], float]) -> list[float]:
    """The median of what each task gives; they take turns, so that what disturbs one disturbs all."""
    results = [[task() for task in tasks] for _ in range(rounds)]
    return [median(column) for column in zip(*results, strict=True)]


def seconds_of(task: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def show(figures: Iterable[Figure]) -> None:
    """Print a table, each line as soon as it is known."""
    if hasattr(os, "getloadavg"):
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} (a busy machine lengthens everything)\n")
    widths = (34, 12, 12, 7, 26, 5)
    _print_row(("figure", "value", "floor", "ratio", "aim", "met"), widths)
    _print_row(tuple("-" * width for width in widths), widths)
    floors: dict[str, str] = {}
    for one in figures:
        met = "" if one.is_met is None else "yes" if one.is_met else "NO"
        value, floor = f"{one.value:.1f} {one.unit}", f"{one.floor:.1f} {one.unit}"
        _print_row((one.name, value, floor, f"{one.ratio:.2f}", one.aim, met), widths)
        floors[one.name] = one.floor_name
    print("\nfloors:")
    for name, floor in floors.items():
        print(f"  {name}: {floor}")


def _print_row(cells: tuple[str, ...], widths: tuple[int, ...]) -> None:
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), flush=True)
