"""The type of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lnpay.doctor.findings import Finding
from lnpay.doctor.target import Target


@dataclass(frozen=True)
class Check:
    """One check. names: the findings that `run` yields when it completes.

    run: may raise an LnpayError at any point; findings yielded before it count.
    """

    names: tuple[str, ...]
    run: Callable[[Target], Iterable[Finding]]
