"""Whole classifiers: LITv1, LITv2 and LightViT, and the parts that they share."""
