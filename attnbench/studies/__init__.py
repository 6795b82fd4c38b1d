"""Looks inside a model: the spectrum of what HiLo's two branches make."""
