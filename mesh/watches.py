"""Whether the kernel lets this user watch as many files as the sidecars do.

An Envoy watches each discovery file with an inotify instance of its own, and aborts when it gets none. Linux allows a
user 128 by default (fs.inotify.max_user_instances, inotify(7)), which several systems at once exceed. So only what may
change while an Envoy runs is in such a file: its certificate, its routes, and endpoints of services with replicas.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import MeshError

_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


def watched(bootstrap: Any) -> set[str]:
    """Files that one Envoy watches: the same one twice is watched once."""
    found: set[str] = set()
    pending = [bootstrap]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "path_config_source" in node:
                found.add(node["path_config_source"]["path"])
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return found


def check(bootstraps: Iterable[Any]) -> None:
    """Raises MeshError when these Envoys could not all start now."""
    needed = sum(len(watched(bootstrap)) for bootstrap in bootstraps)
    libc = ctypes.CDLL(None, use_errno=True)
    held: list[int] = []
    try:
        for _ in range(needed):
            descriptor = libc.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                if ctypes.get_errno() != errno.EMFILE:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                raise MeshError(
                    f"the sidecars watch {needed} files and this user may watch {len(held)} more (another system is "
                    f"up?); stop it with `alphamesh down`, raise the limit of {_LIMIT.read_text().strip()} with "
                    "`sysctl fs.inotify.max_user_instances=512`, or do without sidecars: `mesh: {sidecars: false}`"
                )
            held.append(descriptor)
    finally:
        for descriptor in held:
            os.close(descriptor)
