"""The smallest difference that this machine can detect, from layers whose true behaviour is known."""
