"""Models that are shipped with AlphaMesh become versions at the first start: their cards say what they are.

What is in a folder of Triton's layout, <model>/<version>/, is registered under that number, once; the same folder
again changes nothing, and other content under a number that is taken is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from alphamesh.model.v1 import model_pb2
from python_services.kit import telemetry
from python_services.kit.errors import ServiceError
from python_services.kit.ids import content_id, request_id

from . import artifacts, onnx_graph
from .artifacts import CARD, GOLDEN, MODEL, READING, Store, Taken
from .config import Config
from .registry import BOOTSTRAP, Registry
from .signing import Manifest


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """One version of the folder, checked."""

    number: int
    request: model_pb2.RegisterModelVersionRequest
    taken: Taken


def shipped(folder: Path, store: Store) -> Iterator[Shipped | str]:
    """Every version of `folder`, by model and number; a text says why one is left out. File work: in a thread."""
    for path in sorted(folder.glob(f"*/*/{MODEL}"), key=lambda path: (path.parts[-3], len(path.parts[-2]), path)):
        if not path.parent.name.isdecimal():
            continue
        try:
            yield _version(path, store)
        except (OSError, orjson.JSONDecodeError, onnx_graph.GraphError, ServiceError, ValueError) as error:
            yield f"{path.parent.parent.name}/{path.parent.name}: {error}"


def _version(path: Path, store: Store) -> Shipped:
    content = store.remember(path)
    beside = {
        name: store.remember(path.with_name(name)) for name in (CARD, READING, GOLDEN) if path.with_name(name).exists()
    }
    card: dict[str, Any] = orjson.loads(beside[CARD]) if CARD in beside else {}
    for name, stated in artifacts.companions(beside.get(CARD, b"")).items():
        if content_id(store.remember(path.with_name(name))) != stated:
            raise ValueError(f"{name} does not have the hash that the card states")
    model_id, sha256 = path.parent.parent.name, content_id(content)
    if card.get("onnx_sha256") not in (None, "", sha256):
        raise ValueError("model.onnx does not have the hash that its card states")
    request = model_pb2.RegisterModelVersionRequest(
        request_id=request_id("bootstrap", model_id, path.parent.name, sha256),
        model_id=model_id,
        artifact=model_pb2.Artifact(
            path=str(Path(*path.parts[-3:])),
            sha256=sha256,
            size_bytes=len(content),
            format=model_pb2.Artifact.FORMAT_ONNX,
        ),
        owner=BOOTSTRAP,
    )
    artifacts.check(content, request, beside.get(CARD, b""))
    taken = Taken(
        sha256=sha256,
        card_sha256=content_id(beside[CARD]) if CARD in beside else "",
        golden_sha256=content_id(beside[GOLDEN]) if GOLDEN in beside else "",
    )
    return Shipped(number=int(path.parent.name), request=request, taken=taken)


async def register(config: Config, registry: Registry, store: Store) -> None:
    """Registers what is new in the folder; what is not, and what is wrong, is logged."""
    folder = config.bundled_folder
    if folder is None:
        return
    for found in await asyncio.to_thread(lambda: list(shipped(folder, store))):
        if isinstance(found, str):
            telemetry.logger().error("a shipped model is left out", why=found)
            continue
        known = registry.state.version(found.request.model_id, found.number)
        if known is None:
            registry.register(found.request, found.number, found.taken)
        elif Manifest.parse(known.manifest).sha256 != found.taken.sha256:
            telemetry.logger().error(
                "a shipped model has other content than the version registered under its number",
                model=found.request.model_id,
                version=found.number,
            )
    await registry.journal.commit()
