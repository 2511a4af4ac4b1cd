"""The version of LNPay."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def version() -> str:
    """The version in pyproject.toml, or of the installed package, such as "0.1.0"."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if not project.exists():
        return metadata.version("lnpay")
    return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
