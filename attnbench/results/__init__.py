"""What is stored: records, their quantities and flags, and the run folder."""
