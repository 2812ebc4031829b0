"""Any torch module, K trials at a time, equal to K plain runs; or one by one. See ``form.ModuleForm``."""

from optim_core.vmapped.alone import one_trial
from optim_core.vmapped.flat_steps import FlatSteps, Recordings
from optim_core.vmapped.form import LossOf, ModuleForm, OutputsOf, Refused, Weights
from optim_core.vmapped.looped import Looped, copied
from optim_core.vmapped.prove import Proof, prove
from optim_core.vmapped.streams import Streams, streams_kept
from optim_core.vmapped.vmapped import Vmapped

__all__ = [
    "FlatSteps",
    "Looped",
    "LossOf",
    "ModuleForm",
    "OutputsOf",
    "Proof",
    "Recordings",
    "Refused",
    "Streams",
    "Vmapped",
    "Weights",
    "copied",
    "one_trial",
    "prove",
    "streams_kept",
]
