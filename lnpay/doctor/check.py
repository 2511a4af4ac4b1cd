"""The form of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lnpay.doctor.findings import Finding
from lnpay.doctor.target import Target


@dataclass(frozen=True)
class Check:
    """Something to look at. names: of every finding that `run` gives when nothing keeps it from looking.

    run: may raise an LnpayError at any moment; what it has given by then counts.
    """

    names: tuple[str, ...]
    run: Callable[[Target], Iterable[Finding]]
