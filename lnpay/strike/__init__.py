"""Strike: the client, its answers and failures, and the budget of calls."""
