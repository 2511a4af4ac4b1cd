"""Pages for people: the shop, the wallet, the ledger, the panel of faults."""
