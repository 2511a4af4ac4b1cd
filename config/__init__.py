"""What a merchant configures: the settings and the delivery hook."""
