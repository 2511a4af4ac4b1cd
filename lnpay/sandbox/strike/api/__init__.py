"""Strike's API over HTTP."""
