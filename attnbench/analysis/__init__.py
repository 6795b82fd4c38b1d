"""Numbers -> verdicts: statistics, when to stop, and what the rounds of a group amount to. No torch."""
