"""What this machine can resolve: identical layers, doubled work, a known allocation and a known delay."""
