"""The console script ``whichopt``. Light, so that even Ctrl-C during the imports of the commands is one line."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Entry point of the console script."""
    try:
        from service.cli.errors import Terminated
        from workers.commands import run
        from workers.local import leave
    except KeyboardInterrupt:
        print("whichopt: interrupted: nothing was asked yet", file=sys.stderr, flush=True)
        os._exit(130)

    def end(number: int, frame: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    leave(run())


if __name__ == "__main__":
    main()
