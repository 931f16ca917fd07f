"""Becomes another program that dies with its parent: ``python -I -S launch.py PARENT_PID USER PROGRAM [ARGUMENT]...``.

USER is "uid:gid" to give up root for, or "-". A separate step, because code between fork and exec in a process with
threads can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); survives exec, but no change of user
SAME_USER = "-"


def main() -> None:
    """Never returns."""
    parent, user, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if user != SAME_USER:
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.chdir("/")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
