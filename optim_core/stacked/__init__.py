"""K networks of one architecture, forward and backward at once. See ``network.StackedNetwork``."""
