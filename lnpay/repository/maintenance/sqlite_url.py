"""SQLite database URLs. No other code builds or parses them.

Folders have names like `José #1`, `100% shop` and `C:\\lnpay`: in a URL every special character is percent-encoded.
"""

from __future__ import annotations

from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url


def sqlite_url(path: PurePath) -> str:
    """The address of an SQLite file for DATABASE_URL and SQLAlchemy. Raises ValueError for a name that is not text."""
    try:
        return URL.create("sqlite", database=str(path)).render_as_string()
    except UnicodeEncodeError:
        raise ValueError("names a folder whose name is not valid UTF-8: rename the folder") from None


def sqlite_path(database_url: str) -> Path | None:
    """The file of an SQLite database; None for PostgreSQL."""
    url = make_url(database_url)
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def sqlite_uri(path: PurePath, mode: str) -> str:
    """The URI with which SQLite itself opens an absolute path. mode: "ro", "rw" or "rwc"."""
    if isinstance(path, PureWindowsPath):
        # SQLite accepts no host in a URI, so \\server\share becomes a path that begins with two slashes.
        slash = "" if path.as_posix().startswith("//") else "/"
        return f"file://{slash}{quote(path.as_posix(), safe='/:')}?mode={mode}"
    return f"{path.as_uri()}?mode={mode}"
