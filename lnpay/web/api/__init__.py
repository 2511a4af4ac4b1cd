"""Routes for the shop and for Strike."""
