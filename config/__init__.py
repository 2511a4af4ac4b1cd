"""What a merchant sets: the settings, and what happens with every event."""
