"""Run the chaos test: `python -m tests.chaos --orders 2000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.chaos import Chaos
from tests.chaos.pgbouncer import PgBouncer
from tests.chaos.postgres import Cluster, Programs


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--orders", type=int, default=2000, help="the minimum number of orders")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failovers", type=int, default=1, help="how often the primary is killed")
    parser.add_argument("--keep-logs", type=Path, metavar="FOLDER", help="copy every program's log there")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lnpay-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL refuses root, and runs as another user
        try:
            programs = Programs.of_debian()
            pooler = PgBouncer(programs, folder)
            chaos = Chaos(folder, Cluster(programs, folder), pooler, options.seed)
            result = chaos.run(options.orders, options.failovers)
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
        finally:
            if options.keep_logs:
                options.keep_logs.mkdir(parents=True, exist_ok=True)
                for log in folder.glob("*.log"):
                    (options.keep_logs / log.name).write_bytes(log.read_bytes())
    print(*result.report(), f"in {time.monotonic() - started:.0f} s", sep="\n")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
