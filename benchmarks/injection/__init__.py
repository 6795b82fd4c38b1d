"""What faults.py consists of: runs and sessions, the kinds of faults, the journal alone, and the page of counts."""
