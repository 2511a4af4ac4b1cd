"""Tables on a terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS_WITHOUT_TERMINAL = 200
"""Wide enough that nothing is folded in a file or a pipe."""


def new_table(*columns: str) -> Table:
    """A table with these columns and no lines."""
    # Here, because the server loads the commands too and draws no tables.
    from rich.table import Table

    return Table(*columns, box=None)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or as wide as it wants to be."""
    from rich.console import Console

    Console(width=columns_of_output()).print(table)


def columns_of_output() -> int:
    """How wide a line may be."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else COLUMNS_WITHOUT_TERMINAL
