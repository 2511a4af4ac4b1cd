"""Reconcile refunds in flight and retry those that failed. One pass; cron repeats it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lnpay.runtime.packages import check_packages

check_packages()

from lnpay.runtime.worker_passes import refund_pass
from workers.command import run_worker

if __name__ == "__main__":
    sys.exit(run_worker("refund", "Reconcile refunds in flight, retry those that failed.", refund_pass))
