"""What happens between two readings of a clock or a counter, and what the readings are worth."""
