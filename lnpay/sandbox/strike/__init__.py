"""Strike's side: the account's invoices, payments, webhooks and ledger."""
