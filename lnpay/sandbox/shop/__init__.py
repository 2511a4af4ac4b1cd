"""A demo shop."""
