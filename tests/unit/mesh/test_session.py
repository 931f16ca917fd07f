from datetime import date

import pytest

from alphamesh.decision.v1 import decision_pb2
from mesh import session
from mesh.wish import Wish
from python_services.kit.convert import decimal, money_e9
from python_services.kit.errors import ServiceError

DEMO = Wish(
    start=date(2009, 7, 1),
    end=date(2010, 6, 30),
    instruments=("AAPL", "MSFT"),
    account="demo",
    cash="1000000",
    currency="USD",
    method="MEAN_VARIANCE",
    lookback=126,
    risk_aversion=5.0,
    maximum_weight=0.35,
    maximum_turnover=0.25,
    short_allowed=False,
    seed=7,
)


def wish(**changes) -> Wish:
    return Wish(**{**DEMO.__dict__, **changes})


def test_the_last_day_is_inside_and_the_contract_s_end_is_exclusive():
    spec = session.spec(DEMO)
    assert session.day_of(spec.start_ns) == "2009-07-01"
    assert session.day_of(spec.end_ns - 1) == "2010-06-30"
    assert session.day_of(spec.end_ns) == "2010-07-01"
    assert money_e9(spec.initial_cash) == 1_000_000 * 10**9
    assert spec.mandate.method == "MEAN_VARIANCE"


def test_the_same_wish_is_the_same_spec_byte_for_byte():
    specs = {session.spec(DEMO).SerializeToString(deterministic=True) for _ in range(3)}
    assert len(specs) == 1
    assert decision_pb2.SessionSpec.FromString(specs.pop()).seed == 7


@pytest.mark.parametrize(("text", "exact"), [("1000000", "1000000"), ("1_000.50", "1000.5"), ("0.000000001",) * 2])
def test_cash_is_exact(text, exact):
    assert decimal(money_e9(session.amount(text, "USD"))) == exact


@pytest.mark.parametrize("text", ["ten", "", "NaN", "Infinity", "-1", "0", "0.0000000001"])
def test_cash_that_is_none_is_refused(text):
    with pytest.raises(ServiceError, match="cash"):
        session.amount(text, "USD")


def test_an_empty_universe_and_a_range_backwards_are_refused_before_anything_starts():
    with pytest.raises(ServiceError, match="instruments: the universe is empty"):
        session.spec(wish(instruments=()))
    with pytest.raises(ServiceError, match="end: 2009-06-30 is before start"):
        session.spec(wish(end=date(2009, 6, 30)))
