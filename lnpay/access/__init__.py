"""Who may call LNPay: API keys and what each is permitted to do."""
