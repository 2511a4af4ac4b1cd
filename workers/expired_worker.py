"""Find late payments, expire and lapse unpaid invoices. One pass; cron repeats it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lnpay.runtime.packages import check_packages

check_packages()

from lnpay.runtime.worker_passes import expired_pass
from workers.command import run_worker

if __name__ == "__main__":
    sys.exit(run_worker("expired", "Find late payments, expire and lapse unpaid invoices.", expired_pass))
