"""Creating an invoice, detecting its payment, settling it."""
