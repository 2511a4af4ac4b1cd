"""Messages owed to the shop: recorded with the change they report, sent until the shop accepts them."""
