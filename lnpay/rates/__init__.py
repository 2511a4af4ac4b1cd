"""The price of bitcoin: its sources, and the price of a sale."""
