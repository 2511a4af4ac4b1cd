"""Tables that have their own files, and what all tables share; `tables` has every table."""
