"""Money owed back to a customer: sending it, its outcomes, and the operator's decisions."""
