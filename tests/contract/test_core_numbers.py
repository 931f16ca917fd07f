"""The core and the contracts number the same things the same way: conversion is a cast."""

from __future__ import annotations

from enum import IntEnum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2
from execution_core import types
from execution_core.gate import Mode
from python_services.execution import algorithms, modes, orders
from python_services.venue.model import REPORT_KINDS

PAIRS = [
    (types.Side, trading_pb2.Side, "SIDE_"),
    (types.OrderType, trading_pb2.OrderType, "ORDER_TYPE_"),
    (types.TimeInForce, trading_pb2.TimeInForce, "TIME_IN_FORCE_"),
    (types.LiquidityFlag, trading_pb2.LiquidityFlag, "LIQUIDITY_FLAG_"),
    (types.TradingState, trading_pb2.TradingState, "TRADING_STATE_"),
    (types.OrderState, order_pb2.OrderState, "ORDER_STATE_"),
    (types.DenialReason, order_pb2.DenialReason, "DENIAL_REASON_"),
]


@pytest.mark.parametrize(("core", "contract", "prefix"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_enumerations_are_equal(core: type[IntEnum], contract: EnumTypeWrapper, prefix: str) -> None:
    in_contract = {name.removeprefix(prefix): number for name, number in contract.items() if number}
    assert {member.name: member.value for member in core} == in_contract


def test_gate_modes_follow_the_basket_modes() -> None:
    names = {Mode.EACH: "INDEPENDENT", Mode.ALL: "ALL_OR_NOTHING", Mode.FIT: "AS_MUCH_AS_FITS"}
    assert {execution_pb2.BasketMode.Name(n): m for n, m in modes.GATE_MODES.items()} == {
        f"BASKET_MODE_{name}": mode for mode, name in names.items()
    }


def test_venue_events_have_their_report_kind() -> None:
    assert {types.VenueEventKind(k).name: venue_pb2.Report.Kind.Name(v) for k, v in REPORT_KINDS.items()} == {
        name: f"KIND_{name}" for name in ("FILL", "TRIGGERED", "EXPIRED", "CANCELED")
    }


def test_algorithms_have_their_number() -> None:
    kinds = order_pb2.ExecutionAlgorithm.Kind
    for name in ("TWAP", "VWAP", "POV", "IMPLEMENTATION_SHORTFALL"):
        assert getattr(algorithms, name) == kinds.Value(f"KIND_{name}")


def test_reports_have_their_number() -> None:
    kinds = {name.removeprefix("KIND_"): number for name, number in venue_pb2.Report.Kind.items() if number}
    assert {kind.name: kind.value for kind in orders.ReportKind} == {k: v for k, v in kinds.items() if k != "FILL"}
