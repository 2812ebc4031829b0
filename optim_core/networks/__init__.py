"""What a network consists of, and whether it fits the data: layers, shapes and sizes as numbers. No torch, so that the
service knows before anything is stored; ``tasks.models`` builds what is described here.
"""

from optim_core.networks.fits import describe, fitting, fitting_text
from optim_core.networks.part import Network, Part, in_a_line

__all__ = ["Network", "Part", "describe", "fitting", "fitting_text", "in_a_line"]
