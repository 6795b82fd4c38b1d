"""What `speed.py`, `against_authors.py` and `rewrites.py` share: pairs of arms of one run, and the tables of them."""
