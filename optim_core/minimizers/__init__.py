"""Methods for small problems that need the loss itself, not a stream of mini-batch gradients."""
