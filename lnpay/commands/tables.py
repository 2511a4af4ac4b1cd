"""Tables on a terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS_WITHOUT_TERMINAL = 200
"""Wide enough that nothing is folded in a file or pipe."""


def new_table(*columns: str) -> Table:
    """A table with these columns and no borders."""
    # Imported here because the server loads the commands too and draws no tables.
    from rich.table import Table

    return Table(*columns, box=None)


def print_table(table: Table) -> None:
    """Print a table, folded to the terminal's width if there is a terminal."""
    from rich.console import Console

    # Without markup: a shop may call an order "[/1]".
    Console(width=columns_of_output(), markup=False, emoji=False).print(table)


def columns_of_output() -> int:
    """The width available to a line of output."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else COLUMNS_WITHOUT_TERMINAL
