"""The machine: its devices, the counters of its system, and the description that a run stores."""
