"""Messages owed to the shop: written with what they report, sent until they are taken."""
