"""Check every part of an installation without changing anything, and say what to do about each problem.

    findings = examine(settings)      # in a fixed order, at least one per check, within 15 seconds

Nothing is migrated, and nothing is written except the count of calls to Strike; the write test is rolled back. No
invoice, quote or payment is created.
"""

from lnpay.doctor.findings import Finding, Verdict
from lnpay.doctor.runner import examine

__all__ = ["Finding", "Verdict", "examine"]
