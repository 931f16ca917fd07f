"""Small disks of our own: a file system in a file, whose copy is what a power cut would have left; and a full one.

A file system that is mounted by loop keeps what was not synced in memory and writes to its image what was. So a copy
of the image, taken while its writers stand still, is the disk as it would be found after the power went at that moment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")


def cannot_mount() -> str:
    """Why no disk can be made here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    missing = [tool for tool in ("mount", "umount", "mkfs.ext4") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "chaos", folder], check=False, capture_output=True, text=True
        )
        if tried.returncode:
            return f"mount is not allowed here: {tried.stderr.strip()}"
        _run("umount", folder)
    return ""


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for images: in memory where there is one, so that a copy takes milliseconds."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="chaos-disk-", dir=base) as folder:
        yield Path(folder)


def new_image(path: Path, megabytes: int = 256) -> None:
    """An empty ext4."""
    with path.open("wb") as file:
        file.truncate(megabytes * 2**20)
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(path))


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """The file system of an image."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-mount-"))
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk with little room over `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(folder))
    try:
        yield
    finally:
        _unmount(folder)


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    """Processes that run no instruction inside: no system call of theirs is under way."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        while not all(_stopped(pid) for pid in pids):
            time.sleep(0.0005)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def copy_image(image: Path, copy: Path) -> None:
    """What is on the disk now."""
    _run("cp", "--sparse=always", str(image), str(copy))


def _stopped(pid: int) -> bool:
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(state == "T" for state in states)


def _unmount(folder: Path) -> None:
    give_up = time.monotonic() + 10
    while subprocess.run(["umount", str(folder)], check=False, capture_output=True).returncode:
        if time.monotonic() > give_up:
            _run("umount", "--lazy", str(folder))
            break
        time.sleep(0.05)  # a process that was just killed may still hold it
    if not any(folder.iterdir()):
        folder.rmdir()


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
