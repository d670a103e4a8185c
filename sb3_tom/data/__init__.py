"""Real and imagined rows: buffers, usable weights, minibatches, units."""
