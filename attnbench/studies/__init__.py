"""Studies of a model's inner outputs: the spectrum of HiLo's two branches."""
