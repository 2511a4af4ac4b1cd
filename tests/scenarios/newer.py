"""A newer LNPay: this one with one more migration."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lnpay.repository.repository import SCHEMA_VERSION
from tests.scenarios.live import ROOT

NEWER = "9000"
PARTS = ("lnpay", "config", "workers")

EXPANDING = """
    op.add_column("invoices", sa.Column("colour", sa.String(10)))
    op.create_table("colours", sa.Column("name", sa.String(10), primary_key=True))
"""
CONTRACTING = """
    op.drop_column("invoices", "description")
"""


def newer_lnpay(folder: Path, migration: str, oldest_code: str | None = None) -> Path:
    """A copy of this LNPay whose newest migration is one more than today's."""
    folder.mkdir()
    for part in PARTS:
        leave_out = shutil.ignore_patterns("__pycache__", ".env", "local")
        shutil.copytree(ROOT / part, folder / part, ignore=leave_out)
    for name in ("main.py", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    versions = folder / "lnpay" / "repository" / "migrations" / "versions"
    declared = f'oldest_code = "{oldest_code}"' if oldest_code else ""
    (versions / f"{NEWER}_newer.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\n"
        f'revision, down_revision = "{NEWER}", "{SCHEMA_VERSION}"\nbranch_labels = depends_on = None\n{declared}\n'
        f"def upgrade():{migration}"
    )
    module = folder / "lnpay" / "repository" / "repository.py"
    module.write_text(re.sub(r'SCHEMA_VERSION = "\d+"', f'SCHEMA_VERSION = "{NEWER}"', module.read_text()))
    return folder
