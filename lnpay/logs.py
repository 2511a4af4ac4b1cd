"""Logging, set up once per process: one line per event, a fixed message and then fields, to standard error."""

from __future__ import annotations

import logging
import sys


def set_up_logging(level: str) -> None:
    """Log this package at `level` (a word such as "info"); libraries only when they complain."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lnpay").setLevel(level.upper())
