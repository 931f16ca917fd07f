"""A process that has imported what all services share, and forks one service at a time from itself.

``python -m mesh.nursery SOCKET_NUMBER MODULE...``, started by `process.Nursery`. It imports the modules once,
so that a service is up a moment after it was asked for, at the start and after a crash. It has one thread,
opens no connection and no event loop, and therefore forks safely. Requests and reports are one JSON message
each on a SOCK_SEQPACKET pair; a request carries the service's standard output and error.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from .launch import PR_SET_PDEATHSIG

MESSAGE_BYTES = 64 * 1024


def main() -> None:
    """Serves until the supervisor's end of the socket is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    libc = ctypes.CDLL(None)
    gc.collect()
    gc.freeze()  # collections in the children leave these pages shared
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    _send(channel, ready=os.getpid())
    while True:
        readable, _, _ = select.select([channel.fileno(), wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            _reap(channel)
        if channel.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 2)
            if not message:
                return
            request = json.loads(message)
            pid = _fork(request, descriptors, channel, libc)
            for descriptor in descriptors:
                os.close(descriptor)
            _send(channel, token=request["token"], pid=pid)


def _fork(request: dict[str, Any], descriptors: list[int], channel: socket.socket, libc: Any) -> int:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(f"the nursery has {threads} threads; remove the module that starts one from `preload`")
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _become(request, descriptors, channel)
    return pid


def _become(request: dict[str, Any], descriptors: list[int], channel: socket.socket) -> NoReturn:
    """The child: its own session, its own output, then the module as ``python -m`` runs it."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel.close()
    for target, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, target)
        os.close(descriptor)
    sys.argv = ["", *request["arguments"]]
    code = 0
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reap(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(channel, ended=pid, code=os.waitstatus_to_exitcode(status))


def _send(channel: socket.socket, **message: Any) -> None:
    try:
        channel.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the supervisor has gone; the children go with this process


if __name__ == "__main__":
    main()
