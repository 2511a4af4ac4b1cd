"""The domain: states, money, errors and data types. Standard library only, no I/O."""
