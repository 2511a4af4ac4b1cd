"""The report, and its reconciliation with Strike."""
