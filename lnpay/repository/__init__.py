"""The database: SQLAlchemy Core over SQLite or PostgreSQL, one module per noun.

    with repository.transaction() as tx:        # commits at the end, rolls back on an error
        if tx.invoices.mark_paid(...):
            tx.deliveries.add(...)

Never make an outside call inside a transaction.
"""

from lnpay.repository.repository import Repository, Transaction

__all__ = ["Repository", "Transaction"]
