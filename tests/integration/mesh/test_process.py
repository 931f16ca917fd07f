"""The pipes of child processes: under uvloop, as the command line runs, nobody else's files are closed with them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import uvloop

from mesh import process

PIPES = 4_000


def test_the_end_of_a_childs_log_closes_no_file_of_another_thread(tmp_path: Path) -> None:
    done, lost = threading.Event(), []

    def use_files() -> None:
        while not done.is_set():
            descriptor = os.open(tmp_path, os.O_RDONLY)
            try:
                os.fstat(descriptor)
                os.close(descriptor)
            except OSError as error:
                lost.append(error)

    async def read_to_the_end() -> bytes:
        reader, writer = process._pipe()
        os.write(writer, b"last words\n")
        os.close(writer)
        return await reader.read()

    async def children() -> None:
        for _ in range(PIPES // 20):
            assert set(await asyncio.gather(*(read_to_the_end() for _ in range(20)))) == {b"last words\n"}

    threads = [threading.Thread(target=use_files) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(children())
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not lost


async def test_what_a_killed_process_had_started_goes_with_it(tmp_path: Path) -> None:
    """Triton's models are processes of its own: killed, it cannot end them."""
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(told)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    parent = await process.Process.start("parent", [sys.executable, "-c", code], tmp_path / "log", dict(os.environ))
    while not told.exists() or not told.read_text():  # noqa: ASYNC110 - another process, nothing to be woken by
        await asyncio.sleep(0.01)
    child = int(told.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    async with asyncio.timeout(10):  # the child holds the log open: nobody may wait for that
        assert await parent.wait() == -signal.SIGKILL
        while alive(child):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
