"""What operators and monitoring systems see."""
