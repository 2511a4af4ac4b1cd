"""The report for the books, and its comparison with Strike."""
