"""Entry point of the `alphamesh` command. Everything is imported inside, so that Ctrl-C is met from the start."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
# Before anything loads NumPy: sums in this process come out as in the service processes.
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Exit codes: 0 done, 1 failed (one message), 2 wrong usage, 130 Ctrl-C."""
    # Until a command has its own handler there is nothing to clean up, and an exception inside the import of a
    # compiled module can end in a crash.
    signal.signal(signal.SIGINT, lambda *_: _leave())
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    # Children execute another program at once; gRPC's own preparation of a fork only gets in the way.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from .commands.app import app

    try:
        app()
    except KeyboardInterrupt:
        _leave()


def _leave() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
