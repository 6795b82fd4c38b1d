"""Measurements of one layer or device: latency, operation counts, ceilings."""
