"""Property tests of every reader of input, their strategies, and a second reading of the options."""
