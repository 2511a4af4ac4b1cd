"""Strike's side: the account's invoices, payments and webhooks, and what they come to."""
