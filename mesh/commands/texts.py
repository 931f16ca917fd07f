"""texts import: a file of texts into market_data."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import orjson

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from python_services.kit.ids import request_id

from .. import texts_file
from ..connect import System, running
from ..errors import MeshError
from ..rundir import RunDir
from ..tables import console

BATCH = 200
SHOWN_FROM = 2_000  # texts: less is over before a bar is seen


@dataclass(kw_only=True)
class Imported:
    """What came of a file."""

    file: str
    accepted: int = 0
    duplicates: int = 0
    held: int = 0


async def import_(path: Path, data_dir: Path | None, as_json: bool) -> int:
    """0 when all of them are held."""
    texts = texts_file.read(path)
    async with running(RunDir.find(data_dir)) as system:
        # A key of its own: a repeated file is to be counted as repeated, not answered as it was the first time.
        done = await take_in(system, path, texts, attempt=str(uuid.uuid4()), quiet=as_json)
    if as_json:
        print(orjson.dumps(asdict(done), option=orjson.OPT_INDENT_2).decode())
    else:
        console.print(told(done))
    return 0


def told(done: Imported) -> str:
    """One line."""
    return f"{done.file}: {done.accepted} texts are new, {done.duplicates} were held already; {done.held} are held"


async def take_in(
    system: System, path: Path, texts: Sequence[marketdata_pb2.Text], *, attempt: str = "", quiet: bool
) -> Imported:
    """Sends them in order; the same attempt has the same request ids. Raises MeshError that names the text."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    stub = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    columns = (TextColumn("texts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal or len(texts) < SHOWN_FROM
    done = Imported(file=path.name)
    with nullcontext() if hidden else Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("texts", total=len(texts)) if bar is not None else None
        for start in range(0, len(texts), BATCH):
            request = marketdata_pb2.IngestTextsRequest(texts=texts[start : start + BATCH])
            content = request.SerializeToString(deterministic=True)
            request.request_id = request_id("texts", attempt, hashlib.sha256(content).hexdigest())
            try:
                answer = await stub.IngestTexts(request)
            except grpc.aio.AioRpcError as error:
                raise _explained(path, texts, start, error) from error
            done.accepted, done.duplicates = done.accepted + answer.accepted, done.duplicates + answer.duplicates
            done.held = answer.held
            if bar is not None and task is not None:
                bar.update(task, advance=len(request.texts))
    return done


def _explained(path: Path, texts: Sequence[marketdata_pb2.Text], start: int, error: grpc.aio.AioRpcError) -> MeshError:
    """Which text of the file it was, where the error says which of the request."""
    details = error.details() or error.code().name
    place = re.search(r"texts\[(\d+)\]", details)
    which = f"texts {start + 1} to {min(start + BATCH, len(texts))}"
    if place is not None:
        number = start + int(place[1])
        which = f"text {number + 1} ({texts[number].text_id})"
    return MeshError(f"{path}, {which}: {details}; the first {start} of the file are held")
