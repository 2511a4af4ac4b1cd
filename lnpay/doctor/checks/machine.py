"""The machine: who can read the settings, and is there free disk space?"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    fail,
    ok,
    warn,
)
from lnpay.doctor.target import Target

MEGABYTE = 1_000_000
WARN_BELOW = 1_000 * MEGABYTE
FAIL_BELOW = 100 * MEGABYTE


def settings_are_wrong(problems: Sequence[str]) -> Finding:
    """The only finding when the settings are invalid."""
    return fail(
        "settings",
        "\n".join(problems),
        "fix them in config/.env or in the environment (config/.env.example explains each), then run this again: "
        "nothing else was checked",
    )


def _check_settings(target: Target) -> Iterator[Finding]:
    file = target.settings.env_file
    if not file.is_file():
        yield ok("settings", f"read from the environment only: there is no {file}")
        yield ok("settings_file", "there is none")
        return
    yield ok("settings", f"read from {file} and the environment")
    if os.name == "posix" and file.stat().st_mode & stat.S_IROTH:
        yield warn(
            "settings_file", f"every user of this machine can read {file}, with its secrets", f"chmod 640 {file}"
        )
    else:
        yield ok("settings_file", "other users of this machine cannot read it")


def _check_disk(target: Target) -> Iterator[Finding]:
    """The disk that holds the database; with PostgreSQL, the one that holds the settings."""
    path = target.condition.path or target.settings.env_file
    folder = next(one for one in path.absolute().parents if one.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free // MEGABYTE:,} MB are free on the disk of {folder}"
    if free >= WARN_BELOW:
        yield ok("disk", text)
    else:
        yield (fail if free < FAIL_BELOW else warn)(
            "disk", text, "free some space: on a full disk no payment can be recorded"
        )


CHECKS = (Check(("settings", "settings_file"), _check_settings), Check(("disk",), _check_disk))
