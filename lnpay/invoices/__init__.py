"""Creating an invoice, noticing its payment, settling it."""
