"""Money owed back to a customer: sending it, its outcomes, and what the operator decides."""
