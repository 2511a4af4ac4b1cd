"""Run all benchmarks, or the named ones: python -m bench create qr."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

from bench import (
    admin,
    archive,
    create,
    first_sale,
    idle_pass,
    lists,
    memory,
    qr,
    report,
    scrape,
    start,
    status,
    throughput,
)
from bench.figures import Figure, show

BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "create": create.measure,
    "throughput": throughput.measure,
    "status": status.measure,
    "qr": qr.measure,
    "memory": memory.measure,
    "start": start.measure,
    "idle_pass": idle_pass.measure,
    "first_sale": first_sale.measure,
    "report": report.measure,
    "admin": admin.measure,
    "scrape": scrape.measure,
    "lists": lists.measure,
    "archive": archive.measure,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks one after another."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHES)}; default: all")
    names = parser.parse_args(arguments).names or list(BENCHES)
    if unknown := set(names) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    show(figure for name in names for figure in BENCHES[name]())


if __name__ == "__main__":
    main()
