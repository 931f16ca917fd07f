"""The pipes of child processes: under uvloop, as the command line runs, nobody else's files are closed with them."""

from __future__ import annotations

import asyncio
import os
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
