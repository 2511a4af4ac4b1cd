"""What LNPay is about: states, money, errors and the forms of its data. No library, no I/O."""
