"""The child process of ``apart``: leaves the network, limits itself, does one job, writes what came of it into a file."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.placed import FILE_NAMES
from optim_core.spec.validation import parse_spec
from service.operations.errors import ServiceError
from service.operations.no_network import leave_the_network

# Beyond what the interpreter and its libraries take.
MEMORY = 4 * 2**30
PROCESSOR_S = 120
# It writes its result and nothing else.
FILE, FILES = 32 * 2**20, 64


def main() -> None:
    """Do the job in the file ``job`` of the working folder."""
    # First of all: libraries start threads. Where it is refused, the limits and the empty environment remain.
    leave_the_network()
    # Imported before the limits: libraries reserve address space that is none of the file's doing.
    import optim_core.data  # noqa: F401
    from service.operations import inspection, upload_check

    limit()
    job = json.loads(Path("job").read_text())
    try:
        if job["job"] == "content":
            result: Any = upload_check.content_of(Path(job["path"]), job["name"], job["format"])
        else:
            FILE_NAMES.set(job["names"])
            result = inspection.inspect(parse_spec(job["spec"]), job["roots"]).model_dump(mode="json")
        told: dict[str, Any] = {"result": result}
    except ServiceError as error:
        told = {"error": {"status": error.status, "code": error.code, "message": error.detail, "errors": error.errors}}
    except SpecError as error:
        told = {"error": _of(error)}
    except MemoryError:
        told = {"error": _of(DataError("the file takes too much memory", code="too_large_unpacked"))}
    Path("result").write_text(json.dumps(told))


def limit() -> None:
    """Memory, processor time, size of files and their number, for this process and from now on."""
    for kind, most in (
        (resource.RLIMIT_AS, _taken() + MEMORY),
        (resource.RLIMIT_CPU, PROCESSOR_S),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _taken() -> int:
    """Bytes of address space in use; 0 where the system does not say."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[0]) * resource.getpagesize() if told.exists() else 0


def _of(error: SpecError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": str(error),
        "pointer": error.pointer,
        "data": isinstance(error, DataError),
    }


if __name__ == "__main__":
    main()
