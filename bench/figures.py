"""The results of a benchmark, and their table."""

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
        """The figure divided by its floor: unlike the figure itself, it varies little between machines."""
        return self.value / self.floor


def take_turns(rounds: int, *tasks: Callable[[], float]) -> list[float]:
    """The median result of each task. They take turns, so that other load affects all of them alike."""
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
