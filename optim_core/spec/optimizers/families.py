"""Headings under which the catalogue is shown."""

from __future__ import annotations

MOMENTUM, ADAPTIVE, SIGNS = "Gradient descent and momentum", "Adaptive", "Signs"
AVERAGING, NORMS = "Averaging and parameter-free", "Matrix and norm methods"
WHOLE, AROUND = "Full batch and gradient-free", "Around any other"

# Heading → what its members have in common.
FAMILIES = {
    MOMENTUM: "One learning rate for all weights; momentum averages the gradient.",
    ADAPTIVE: "Each weight has a step size of its own, from the squares of its past gradients.",
    SIGNS: "Only the direction of each weight's step counts, not the size of its gradient.",
    AVERAGING: "No schedule to choose, or no learning rate.",
    NORMS: "A step that is shaped by a whole matrix: its norm, its rows and columns, its curvature.",
    WHOLE: "For small problems: they look at the loss of all training rows at once.",
    AROUND: "They go around another method, AdamW unless you name one.",
}
