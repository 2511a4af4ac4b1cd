"""Program output: to a terminal, a pipe or a log file, in any encoding."""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from lnpay.domain.errors import LnpayError


class LogFileUnusable(LnpayError):
    """The log file cannot be written, so LNPay does not start."""

    code = "log_file_unusable"


CLOSED_PIPE = 141
"""Exit code of a program that SIGPIPE ends: 128 and the number of the signal."""

MAX_LOG_BYTES = 10_000_000
"""A log file that has grown to this size is set aside under the name FILE.1, whose predecessor is dropped."""


def set_up_console(log_file: Path | None = None) -> None:
    """Make sure that no unencodable character crashes the program. Call it before anything is printed.

    A Windows pipe, or a terminal with LANG=C, can encode few characters: others are written as \\\\u20bf there.

    log_file: append everything that is printed or logged to it instead, in UTF-8. Raises LogFileUnusable.
    """
    if log_file is not None:
        try:
            sys.stdout = sys.stderr = _LogFile(log_file)
        except OSError as error:
            raise LogFileUnusable(f"cannot write the log file {log_file}: {error.strerror}") from error
        return
    sys.stdout, sys.stderr = _tolerant(sys.stdout), _tolerant(sys.stderr)


def run_program(main: Callable[[], int]) -> int:
    """The exit code of `main`, or CLOSED_PIPE where the reader of the output has left early, as `head -1` does."""
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go: Python would complain about it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE


def add_log_file(parser: argparse.ArgumentParser) -> None:
    """Add `--log-file` to a command line."""
    parser.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="append what is printed and logged to FILE",
    )


def _tolerant(stream: TextIO | None) -> TextIO:
    if stream is None:  # pythonw.exe has neither
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class _LogFile(io.TextIOBase):
    """A size-limited log file for one process; each line is flushed at once."""

    encoding = "utf-8"

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = self._open()
        self._turn = threading.Lock()

    def _open(self) -> TextIO:
        return open(self._path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Append, rotating the file when it is full."""
        with self._turn:
            if self._file.tell() >= MAX_LOG_BYTES:
                self._file.close()
                # Windows cannot rename a file that an editor has open; then this one keeps growing.
                with suppress(OSError):
                    os.replace(self._path, f"{self._path}.1")
                self._file = self._open()
            return self._file.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._turn:
            self._file.flush()
