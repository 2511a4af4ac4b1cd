"""Run many seeds: `python -m tests.simulation --seeds 10000 --jobs 2`; rerun one: `--seed 123`."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime

from tests.simulation.host import Disks
from tests.simulation.mutants import MUTANTS, seeds_to_notice
from tests.simulation.world import Report, SimulatedWorld

CHUNK = 25
SHOWN_LINES = 60

COLLECTED_EVERY = 50_000
"""New objects between two runs of the garbage collector: the default of 700 costs time, and a world is small."""


def run_seeds(seeds: Sequence[int]) -> list[Report]:
    """Run some seeds in this process, one after another."""
    with Disks() as disks:
        return [SimulatedWorld(seed, disks).run() for seed in seeds]


def _collect_seldom() -> None:
    """Make the garbage collector run less often in this process, and skip what exists already."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_EVERY)


def _run_all(seeds: Sequence[int], jobs: int) -> Iterator[Report]:
    if jobs == 1 or len(seeds) == 1:
        _collect_seldom()
        yield from run_seeds(seeds)
        return
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs, initializer=_collect_seldom) as pool:
        for reports in pool.map(run_seeds, chunks):
            yield from reports


def explain(report: Report, *, lines: int = SHOWN_LINES) -> str:
    """The end of a failing seed's trace, and how to rerun it."""
    shown = report.trace[-lines:] if lines else report.trace
    left_out = len(report.trace) - len(shown)
    head = [f"seed {report.seed}: {report.violation}"]
    head += [f"  ... {left_out} lines before: make simulate SEED={report.seed} shows them all"] if left_out else []
    return "\n".join([*head, *shown, f"VIOLATION: {report.violation}", f"again: make simulate SEED={report.seed}"])


def _try_mutants(jobs: int) -> int:
    with ProcessPoolExecutor(jobs, initializer=_collect_seldom) as pool:
        found = list(pool.map(_try_mutant, range(len(MUTANTS))))
    print("| safeguard switched off | seeds until detected | what was seen |\n|---|---:|---|")
    for mutant, noticed in zip(MUTANTS, found, strict=True):
        seeds, violation = noticed or ("-", f"NOT NOTICED within {mutant.within}")
        print(f"| {mutant.name} | {seeds} | {violation} |")
    return 0 if all(found) else 1


def _try_mutant(number: int) -> tuple[int, str] | None:
    with Disks() as disks:
        return seeds_to_notice(MUTANTS[number], disks)


def seed_of_today() -> int:
    """The first of today's million seeds, so that each day tries different worlds."""
    return datetime.now(UTC).date().toordinal() * 1_000_000


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, help="the first of them; without it, other seeds each day")
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the work")
    parser.add_argument("--seed", type=int, help="only this one, with its whole trace if it fails")
    parser.add_argument("--mutants", action="store_true", help="switch off one safeguard after another instead")
    options = parser.parse_args()
    if options.mutants:
        return _try_mutants(options.jobs)
    first = seed_of_today() if options.first is None else options.first
    seeds = range(first, first + options.seeds) if options.seed is None else [options.seed]
    print(f"seeds {seeds[0]} to {seeds[-1]}", flush=True)
    started = time.perf_counter()
    total: Counter[str] = Counter()
    failed: list[Report] = []
    for report in _run_all(seeds, options.jobs):
        total += report.counts
        if report.violation is not None:
            failed.append(report)
            print(f"seed {report.seed} failed: {report.violation}", flush=True)
    for report in failed[:3]:
        print(explain(report, lines=0 if options.seed is not None else SHOWN_LINES), end="\n\n")
    print(f"{len(seeds):>9,} seeds, {len(failed)} of them failed, in {time.perf_counter() - started:.1f} s")
    for name, count in sorted(total.items()):
        print(f"{count:>9,} {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
