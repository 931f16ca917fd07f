"""The ledger view's state as canonical bytes, and back: JSON with sorted keys, whose integers have no limit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alphamesh.execution.v1 import execution_pb2

if TYPE_CHECKING:
    from .ledger_view import AccountView


def dump(accounts: Mapping[str, AccountView]) -> bytes:
    """Every figure of every account."""
    return json.dumps(
        {name: _account(account) for name, account in accounts.items()}, sort_keys=True, separators=(",", ":")
    ).encode()


def _account(account: AccountView) -> dict[str, Any]:
    policy = account.policy
    fields = {f.name: getattr(account, f.name) for f in dataclasses.fields(account)}
    fields["policy"] = None if policy is None else policy.SerializeToString(deterministic=True).hex()
    # Orders and holdings keep the order in which they came: it is part of what is served.
    fields["holdings"] = [[name, vars(holding)] for name, holding in account.holdings.items()]
    fields["orders"] = [[name, vars(order)] for name, order in account.orders.items()]
    fields["foreign"] = {currency: vars(books) for currency, books in account.foreign.items()}
    return fields


def load(state: bytes) -> dict[str, AccountView]:
    """What `dump` was given."""
    from .ledger_view import AccountView, Books, Holding, WorkingOrder

    accounts = {}
    for name, fields in json.loads(state).items():
        policy = fields["policy"]
        fields["policy"] = None if policy is None else execution_pb2.RiskPolicy.FromString(bytes.fromhex(policy))
        fields["holdings"] = {key: Holding(**held) for key, held in fields["holdings"]}
        fields["orders"] = {key: WorkingOrder(**order) for key, order in fields["orders"]}
        fields["foreign"] = {key: Books(**books) for key, books in fields["foreign"].items()}
        accounts[name] = AccountView(**fields)
    return accounts
