"""Detectors and segmenters around any backbone that gives a pyramid by `features(x)`."""
