"""Look at every part of an installation, without changing anything, and say of each how it is and what to do.

    findings = examine(settings)      # in a fixed order, one or more of each check, in less than 15 seconds

Nothing is migrated or written: calls to Strike are counted in the shared budget, and a try to write is rolled back. No
invoice, quote or payment is made.
"""

from lnpay.doctor.findings import Finding, Verdict
from lnpay.doctor.runner import examine

__all__ = ["Finding", "Verdict", "examine"]
