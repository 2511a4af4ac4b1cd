"""Tables in files of their own, and what all tables are made with; `tables` has every one."""
