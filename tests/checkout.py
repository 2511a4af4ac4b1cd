"""A copy of the program in another folder, as a merchant has it, and a Python for it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = (
    "main.py", "webhook_settings.py", "key_generator.py", "pyproject.toml", "requirements.txt", "CHANGELOG.md",
    "config", "lnpay", "workers", "deploy",
)  # fmt: skip
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".env", "*.sqlite*")


def copy_program(folder: Path) -> Path:
    """Copy what is in git of the program itself. Gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
        else:
            shutil.copy(ROOT / name, folder / name)
    for path in (folder / "config" / "local").iterdir():
        if path.name != "README.md":
            path.unlink()
    return folder


def give_python(folder: Path) -> Path:
    """Make `.venv/bin/python` of a copy: the Python of the tests, with its packages."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return python
