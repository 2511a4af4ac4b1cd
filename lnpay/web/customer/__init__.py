"""Pages and files for the customer."""
