"""Any torch module, K trials at a time, equal to K plain runs; or one by one. See ``form.ModuleForm``."""

from optim_core.vmapped.alone import Streams, one_trial, streams_kept
from optim_core.vmapped.form import LossOf, ModuleForm, OutputsOf, Refused, Weights
from optim_core.vmapped.looped import Looped
from optim_core.vmapped.prove import Proof, prove
from optim_core.vmapped.vmapped import Vmapped

__all__ = [
    "Looped",
    "LossOf",
    "ModuleForm",
    "OutputsOf",
    "Proof",
    "Refused",
    "Streams",
    "Vmapped",
    "Weights",
    "one_trial",
    "prove",
    "streams_kept",
]
