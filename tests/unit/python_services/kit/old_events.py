"""Event types that no service writes any more, as they were, and a journal's frame recorded in their time.

`python -m tests.unit.python_services.kit.old_events` records the frame anew.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from alphamesh.execution.v1 import events_pb2
from python_services.kit import convert
from python_services.kit.journal import Event, Journal

RECORDED = Path(__file__).with_name("recorded") / "account_opened_v0.frame"
_FIELD = descriptor_pb2.FieldDescriptorProto


def _old_type() -> type[Message]:
    """alphamesh.execution.v0.AccountOpened: cash as one number of cents, and the currency beside it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="alphamesh/execution/v0/events.proto", package="alphamesh.execution.v0", syntax="proto3"
    )
    message = file.message_type.add(name="AccountOpened")
    for number, (name, kind) in enumerate(
        (("account", _FIELD.TYPE_STRING), ("cash_cents", _FIELD.TYPE_INT64), ("currency", _FIELD.TYPE_STRING)), start=1
    ):
        message.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("alphamesh.execution.v0.AccountOpened"))


OldAccountOpened: Any = _old_type()
OLD_SCHEMA = "alphamesh.execution.v0.AccountOpened"


def upcast(payload: bytes) -> events_pb2.AccountOpened:
    """A v0 event as today's."""
    old = OldAccountOpened.FromString(payload)
    return events_pb2.AccountOpened(
        account_id=old.account, cash=convert.money(old.cash_cents * (convert.NANO // 100), old.currency)
    )


async def _record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.db", "execution", "0.0.1", print)
        old = OldAccountOpened(account="demo", cash_cents=1_234_56, currency="USD")
        journal.add([Event(payload=old, ts_event_ns=1, ts_init_ns=1)])
        await journal.commit()
        RECORDED.parent.mkdir(exist_ok=True)
        RECORDED.write_bytes(next(iter(journal.read(1))).SerializeToString())
        journal.close()


if __name__ == "__main__":
    asyncio.run(_record())
