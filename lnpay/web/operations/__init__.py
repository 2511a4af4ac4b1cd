"""Routes for operators and their monitors: health, metrics, API documents."""
