"""Planning: a sweep becomes the list of its cells, with a protocol and an estimate of the time. No torch."""
