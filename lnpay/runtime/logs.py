"""Logging, set up once per process: one event a line, a fixed message and then fields, to standard error."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the current HTTP request; empty outside one."""

_FIELD = re.compile(r"(?:^|\s)([a-z_][a-z0-9_]*)=", re.ASCII | re.IGNORECASE)

_DETAIL = re.compile(r"^DETAIL: .*?(?=\n+The above exception|\n\[SQL|\Z)", re.MULTILINE | re.DOTALL)


def set_up_logging(level: str, log_format: str = "text") -> None:
    """Log this package at `level` (such as "info"), and libraries' warnings.

    log_format: "text", or "json" for an object a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lnpay").setLevel(level.upper())


class _Discreet(logging.Formatter):
    """Removes row contents quoted by PostgreSQL from exceptions: they may hold tokens and addresses."""

    def formatException(self, ei: Any) -> str:  # noqa: ANN401 - as in the base class
        """The traceback, without row contents."""
        return _DETAIL.sub("DETAIL: not logged", super().formatException(ei))


class TextFormatter(_Discreet):
    """`time LEVEL logger message key=value …`; a bug's stack trace follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line itself, with the id of the request that it belongs to."""
        # A message may quote text from outside, which must not start a line of its own.
        line = super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")
        return f"{line} request_id={request_id.get()}" if request_id.get() else line


class JsonFormatter(_Discreet):
    """`{"time": …, "level": …, "logger": …, "message": …}` and the message's fields beside them, on one line.

    After an exception: `error` (its class) and `traceback`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        message, fields = split_fields(record.getMessage())
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if request_id.get():
            said["request_id"] = request_id.get()
        if record.exc_info and record.exc_info[0]:
            said["error"] = record.exc_info[0].__name__
            said["traceback"] = self.formatException(record.exc_info)
        # Our keys take precedence, so that no field can forge the time or level.
        return json.dumps({**said, **{name: value for name, value in fields.items() if name not in said}}, default=str)


def split_fields(message: str) -> tuple[str, dict[str, int | str]]:
    """Split "invoice settled invoice_id=7 reason=no answer" into its words and its fields. Whole numbers are int.

    A value ends where the next field begins. Of two fields of the same name the first one counts.
    """
    words, *parts = _FIELD.split(message)
    fields: dict[str, int | str] = {}
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        fields.setdefault(name, int(value) if value.isdecimal() and value.isascii() and len(value) < 16 else value)
    return words.strip(), fields
