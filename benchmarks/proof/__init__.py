"""What gpu_proof.py consists of: steps, the checks that they make, and the table that collects them."""
