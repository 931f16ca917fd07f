"""A process that may write in one folder only: Linux's Landlock (kernel 5.13 and later), for itself and its children.

Reading stays as it was. Where the kernel has no Landlock nothing changes, and the caller is told.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_WRITE_FILE = 1 << 1
# Writing, removing (files, folders) and making (devices, folders, files, sockets, pipes, links): linux/landlock.h.
_WRITING = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))


def confine(folder: Path, *others: Path) -> bool:
    """From now on this process writes in `folder` and `others` only; False where the kernel cannot do that.

    Irrevocable. Files that are open already stay as they are.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack("Q", _WRITING)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in (folder, *others):
            if not path.exists():
                continue
            allowed = _WRITING if path.is_dir() else _WRITE_FILE
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed, opened)
            added = libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
            os.close(opened)
            if added < 0:
                return False
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
