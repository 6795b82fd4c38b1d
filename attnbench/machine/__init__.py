"""What a measurement runs on: devices, counters of the system, and the description that a run stores."""
