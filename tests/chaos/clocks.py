"""Clocks that jump under a process that does not know: the wall clock by a library, the monotonic one by the kernel.

Instead of a dependency on libfaketime, a few lines of C stand before libc's clock_gettime, compiled
where there is a compiler. The kernel's time namespaces move CLOCK_MONOTONIC and CLOCK_BOOTTIME.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Each call of the wall clock is up to ten years early or late. Timers and deadlines use the monotonic clock, which
# is left alone here.
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long long jump(void) {
    static unsigned long long state = 88172645463325252ULL;
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (long long)(state % 630720000ULL) - 315360000LL;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && result == 0) now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (result == 0) now->tv_sec += jump();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""
DAYS = 86_400


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How a process is started under it."""

    name: str
    prefix: tuple[str, ...] = ()
    preload: bool = False

    @property
    def jumps(self) -> bool:
        """Whether it is not the machine's own."""
        return bool(self.prefix) or self.preload

    def missing(self) -> str:
        """Why it cannot be had here; empty when it can."""
        if self.preload and shutil.which("cc") is None:
            return "no C compiler"
        if self.prefix and subprocess.run([*self.prefix, "true"], check=False, capture_output=True).returncode:
            return "time namespaces need root and Linux 5.6"
        return ""

    def environment(self, folder: Path) -> dict[str, str]:
        """What has to be set; compiles into `folder`."""
        if not self.preload:
            return {}
        source, library = folder / "jump.c", folder / "jump.so"
        source.write_text(SOURCE)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        return {"LD_PRELOAD": ":".join(filter(None, [str(library), os.environ.get("LD_PRELOAD", "")]))}


CLOCKS = (
    Clock(name="machine"),
    Clock(name="wall clock jumps by years at every call", preload=True),
    Clock(
        name="monotonic clock 400 days ahead",
        prefix=("unshare", "--time", "--monotonic", str(400 * DAYS), "--boottime", str(400 * DAYS)),
    ),
)
