"""Processes, order and resuming: a plan becomes records in a run folder."""
