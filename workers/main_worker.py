"""Detect payments at Strike and send due messages to the shop. One pass; cron repeats it."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lnpay.runtime.packages import check_packages

check_packages()

from lnpay.runtime.worker_passes import main_pass
from workers.command import run_worker

if __name__ == "__main__":
    sys.exit(
        run_worker(
            "main", "Detect payments and send due messages to the shop.", partial(main_pass, waits_for_others=True)
        )
    )
