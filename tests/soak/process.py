"""Run one of LNPay's programs with a clock that is off: `python -m tests.soak.process FILE SLOT main.py ...`.

Only the clock is replaced. FILE is that of `SharedTime`; SLOT selects the number by which this clock is off.
"""

from __future__ import annotations

import runpy
import sys
from functools import partial
from pathlib import Path

import lnpay.runtime.bootstrap
from tests.soak.clocks import SharedTime


def main() -> None:
    """Put the clock in place, then run the program as Python would."""
    path, slot, program, *arguments = sys.argv[1:]
    shared = SharedTime(Path(path))
    built = partial(
        lnpay.runtime.bootstrap.build_backend, clock=partial(shared.now_in, int(slot)), steady=shared.steady
    )
    lnpay.runtime.bootstrap.build_backend = built
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
