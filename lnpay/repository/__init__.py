"""What LNPay remembers: SQLAlchemy Core over SQLite or PostgreSQL, one file per noun.

    with repository.transaction() as tx:        # commits at the end, rolls back on an error
        if tx.invoices.mark_paid(...):
            tx.deliveries.add(...)

A foreign call never happens inside a transaction.
"""

from lnpay.repository.repository import Repository, Transaction

__all__ = ["Repository", "Transaction"]
