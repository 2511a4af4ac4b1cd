"""What operators and their monitors see."""
