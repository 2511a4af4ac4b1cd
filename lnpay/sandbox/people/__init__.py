"""The simulator's pages: the shop, the wallet, the ledger and the fault panel."""
