"""For local workers that a test starts: training of a stage stands still after its first chunk while a file is there.

Python imports this before anything else where its folder is in PYTHONPATH. ``HELD_STAGE``: portfolio or search;
``HELD_WHILE``: the file. Another one beside it, ``reached``, says that a worker has come to the stage.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if "workers.local" in sys.orig_argv:
    from workers import runner

    going_on = runner._Work.on_chunk

    def hold(work: runner._Work, *chunk: object) -> bool:
        held_here = work.claim.unit.trials[0].stage == os.environ["HELD_STAGE"]
        held = Path(os.environ["HELD_WHILE"])
        if held_here:
            held.with_name("reached").touch()
        while held_here and held.exists() and not work._asked_to_stop():
            time.sleep(0.02)
        return going_on(work, *chunk)  # type: ignore[arg-type]

    runner._Work.on_chunk = hold  # type: ignore[method-assign]
