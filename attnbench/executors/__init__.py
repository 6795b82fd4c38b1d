"""Where the jobs run."""
