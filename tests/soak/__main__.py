"""Run the soak: `python -m tests.soak --hours 24`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.soak import HOURS_OFF, Soak


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="hours of the shop's time")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 86_400_000_000_000, help="default: today's")
    options = parser.parse_args()
    print(f"{options.hours:g} hours, clocks up to {HOURS_OFF:g} hours off, seed {options.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lnpay-soak-") as folder:
        soak = Soak(Path(folder), options.hours, options.seed)
        try:
            soak.run()
        except AssertionError as error:
            print(f"LOST OR DUPLICATED: {error}")
            return 1
    for name, count in sorted(soak.counts.items()):
        print(f"{count:>9,} {name}")
    print(f"nothing lost or duplicated, in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
