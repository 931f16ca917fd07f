"""Scores against numbers worked out by hand from the filings, and silence where a number is missing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import numpy as np
import pytest

from python_services.fundamental_agent.accounts import company
from python_services.fundamental_agent.agents import altman, dcf, piotroski
from python_services.fundamental_agent.view import Accounts, Fundamentals
from python_services.kit.agents import Reason, forecast
from python_services.kit.facts import CompanyFacts, Fact, visible_from_ns

from .companies import AGENTS, FACTS, evidence, look, run, why

MARCH_2010 = date(2010, 3, 1)
TRIO = ("AAPL", "IBM", "GOOG")
PRICES = (200.0, 127.0, 530.0)


def test_figures_of_ibm_are_those_of_its_annual_report() -> None:
    found = company(FACTS.as_of("IBM", visible_from_ns(MARCH_2010)))
    assert found is not None
    assert (found.end, found.fiscal_year) == (date(2009, 12, 31), date(2009, 12, 31))
    assert found.figures["net_income_year"] == 13_425e6
    assert found.figures["revenue_year"] == 95_758e6
    assert found.figures["operating_income_year"] == 18_138e6 + 402e6  # IBM states pretax income and interest
    assert found.figures["shares"] == 2_127_016_668 - 821_679_245  # issued, less what it holds itself
    assert found.figures["revenue_before"] == 103_630e6


def test_value_is_yields_on_price_times_shares() -> None:
    found = run("fundamental.value", look(TRIO, MARCH_2010, PRICES))
    ibm = evidence(found, TRIO.index("IBM"))
    market = 127.0 * 1_305_337_423
    assert ibm["market_value_usd"] == pytest.approx(market)
    assert ibm["earnings_yield"] == pytest.approx(13_425e6 / market)
    assert ibm["book_to_market"] == pytest.approx(22_637e6 / market)
    assert ibm["sales_to_price"] == pytest.approx(95_758e6 / market)
    (row,) = np.flatnonzero(found.index == 1)
    assert found.expected_return is not None
    assert found.expected_return[row] == pytest.approx(0.03 * found.volatility[row] * ibm["peers_z"])
    assert why(found)[0][0] is Reason.NO_SIGNAL


def test_cheaper_is_better() -> None:
    """The same three companies, one at ever lower prices."""
    scores = []
    for price in (60.0, 127.0, 300.0):
        view = look(TRIO, MARCH_2010, (200.0, price, 530.0))
        agent = AGENTS["fundamental.value"]
        scores.append(agent.compute(view, np.ones(3, dtype=np.bool_)).evidence["peers_z"][1])
    assert scores[0] > scores[1] > scores[2]


def test_quality_and_accruals_are_their_definitions() -> None:
    everyone = np.ones(3, dtype=np.bool_)
    view = look(TRIO, MARCH_2010, PRICES)
    read = AGENTS["fundamental.quality"].compute(view, everyone).evidence
    assert read["gross_profitability"][1] == pytest.approx(43_785e6 / 109_022e6)  # IBM 2009
    assert read["return_on_equity"][1] == pytest.approx(13_425e6 / 22_637e6)
    assert read["margin_change"][1] == pytest.approx(13_425 / 95_758 - 12_334 / 103_630)
    accruals = AGENTS["fundamental.accruals"].compute(view, everyone).evidence["accruals"]
    assert accruals[1] == pytest.approx((13_425 - 20_773) / ((109_022 + 109_524) / 2))
    # GOOG 2009: 6,520 of profit, 9,316 of cash, assets from 31,768 to 40,497.
    assert accruals[2] == pytest.approx((6_520 - 9_316) / ((40_497 + 31_768) / 2), rel=1e-3)


def test_growth_compares_the_same_months() -> None:
    """Apple's half year to March 2010: revenue 29,182 against 20,964 (restated), profit 6,452 against 3,875."""
    names = ("AAPL", "IBM", "GOOG", "MSFT")
    found = run("fundamental.growth", look(names, date(2010, 6, 30), (250.0, 125.0, 445.0, 23.0)))
    apple = evidence(found, 0)
    assert apple["revenue_growth"] == pytest.approx(np.log(29_182 / 20_964), rel=1e-6)
    assert apple["profit_growth_on_assets"] == pytest.approx((6_452 - 3_875) / 57_057, rel=1e-3)
    assert apple["balance_sheet_age_days"] == pytest.approx(95, abs=1)


def test_altman_of_ibm() -> None:
    view = look(TRIO, MARCH_2010, PRICES)
    assets = 109_022.0
    x1, x2 = (48_935 - 36_002) / assets, 80_900 / assets
    x3, x4 = (18_138 + 402) / assets, 22_637 / 86_267
    assert altman.parts(view)["altman_z"][1] == pytest.approx(6.56 * x1 + 3.26 * x2 + 6.72 * x3 + 1.05 * x4, rel=1e-4)
    reason, detail = why(run("fundamental.altman", view))[1]
    assert reason is Reason.NO_SIGNAL
    assert detail == "Z'' is not below 1.1: the grey zone or the safe one, not that of distress"


def changed(facts: Iterable[Fact], **values: int) -> CompanyFacts:
    """Facts with other values of some tags."""
    return CompanyFacts(fact._replace(value=values.get(fact.tag, fact.value)) for fact in facts)


def of(name: str) -> list[Fact]:
    series = FACTS._versions[name].values()
    return [fact for ends in series for versions in ends.values() for fact in versions]


def test_altman_speaks_of_distress_and_abstains_for_banks() -> None:
    ruined = changed(of("IBM"), RetainedEarningsAccumulatedDeficit=-60 * 10**9, StockholdersEquity=10**9)
    view = look(("IBM",), MARCH_2010, (5.0,), ruined)
    found = run("fundamental.altman", view)
    assert found.expected_return is not None
    assert evidence(found, 0)["altman_z"] < altman.DISTRESS
    assert found.expected_return[0] < 0.0
    bank = run("fundamental.altman", look(("JPM",), MARCH_2010, (40.0,)))
    reason, detail = why(bank)[0]
    assert reason is Reason.MISSING_DATA
    assert "assets current at 2009-12-31" in detail


def test_piotroski_of_apple_in_2018() -> None:
    """Six of nine: liquidity, margin and turnover fell. Figures of the annual reports of 2018 and 2017, millions."""
    view = look(("AAPL",), date(2018, 11, 9), (205.0,))
    by_hand = {
        "profit_positive": 59_531 > 0,
        "cash_flow_positive": 77_434 > 0,
        "return_on_assets_rose": 59_531 / 375_319 > 48_351 / 321_686,
        "cash_flow_above_profit": 77_434 > 59_531,
        "leverage_fell": 93_735 / (365_725 + 375_319) < 97_207 / (375_319 + 321_686),
        "liquidity_rose": 131_339 / 116_866 > 128_645 / 100_814,
        "no_shares_issued": 4_754_986 <= 5_126_201,
        "gross_margin_rose": 101_839 / 265_595 > 88_186 / 229_234,
        "asset_turnover_rose": 265_595 / 375_319 > 229_234 / 321_686,
    }
    assert sum(by_hand.values()) == 6
    found = run("fundamental.piotroski", view)
    read = evidence(found, 0)
    assert read.pop("f_score") == 6
    assert {name: bool(read[name]) for name in by_hand} == by_hand
    assert found.confidence[0] == pytest.approx(0.6827, abs=1e-4)


def test_piotroski_needs_three_year_ends() -> None:
    reason, detail = why(run("fundamental.piotroski", look(("IBM",), MARCH_2010, (127.0,))))[0]
    assert (reason, detail) == (
        Reason.MISSING_DATA,
        "not in its filings: assets two fiscal years before 2009-12-31",
    )
    assert set(piotroski.signals(look(("AAPL",), date(2018, 11, 9), (205.0,)))) == {
        "profit_positive", "cash_flow_positive", "return_on_assets_rose", "cash_flow_above_profit", "leverage_fell",
        "liquidity_rose", "no_shares_issued", "gross_margin_rose", "asset_turnover_rose",
    }  # fmt: skip


def test_discounted_cash_flow_by_hand() -> None:
    """IBM 2009: cash 20,773, spent 3,447; revenue fell 7.6 %, so it grows by the least that is allowed."""
    view = look(("IBM",), MARCH_2010, (60.0,))
    found = run("fundamental.dcf", view)
    read = evidence(found, 0)
    assert read["free_cash_flow_usd"] == (20_773 - 3_447) * 1e6
    assert (read["discount_rate_assumed"], read["terminal_growth_assumed"]) == (0.09, 0.025)
    assert (read["growth_used"], read["growth_of_revenue"]) == (-0.05, pytest.approx(-0.076, abs=5e-4))
    cash, value = 17_326e6, 0.0
    for year in range(1, 6):
        cash *= 0.95
        value += cash / 1.09**year
    value += cash * 1.025 / (0.09 - 0.025) / 1.09**5
    assert read["value_usd"] == pytest.approx(value)
    assert read["value_low_usd"] < value < read["value_high_usd"]
    z = np.log(value / read["market_value_usd"]) / (np.log(read["value_high_usd"] / read["value_low_usd"]) / 2)
    assert z > 1.0
    assert found.expected_return is not None
    assert found.expected_return[0] == pytest.approx(0.03 * found.volatility[0] * min(z, 2.0))


def test_inside_its_range_the_discounted_cash_flow_is_silent() -> None:
    reason, detail = why(run("fundamental.dcf", look(("IBM",), MARCH_2010, (127.0,))))[0]
    assert reason is Reason.NO_SIGNAL
    assert "inside the range" in detail
    with pytest.raises(ValueError, match="discount_rate"):
        dcf.Assumptions(discount_rate=0.05, terminal_growth=0.04)


def test_who_spends_more_than_comes_in_gets_no_value() -> None:
    spent = changed(of("IBM"), PaymentsToAcquirePropertyPlantAndEquipment=30 * 10**9)
    reason, detail = why(run("fundamental.dcf", look(("IBM",), MARCH_2010, (60.0,), spent)))[0]
    assert reason is Reason.NO_SIGNAL
    assert "free cash flow" in detail


@pytest.mark.parametrize("agent_id", AGENTS)
def test_old_statements_are_stale_and_unknown_companies_missing(agent_id: str) -> None:
    names = ("IBM", "NOBODY")
    stale = why(run(agent_id, look(names, date(2010, 12, 31), (140.0, 1.0))))
    assert stale[0] == (Reason.STALE_DATA, "its newest balance sheet is of 2010-03-31, as_of is 2011-01-01")
    assert stale[1] == (Reason.MISSING_DATA, "no balance sheet of it was filed, or none is held")


def test_a_missing_figure_is_named_and_never_made_up() -> None:
    """Microsoft's first filings have nine months and no year."""
    view = look(("MSFT", *TRIO), date(2010, 6, 30), (23.0, 250.0, 125.0, 445.0))
    reason, detail = why(run("fundamental.value", view))[0]
    assert reason is Reason.MISSING_DATA
    assert detail == (
        "not in its filings: net income of the four quarters to 2010-03-31, revenue of the four quarters to 2010-03-31"
    )
    assert why(run("fundamental.accruals", view))[0][1] == (
        "not in its filings: the figures of a fiscal year that ended by 2010-03-31"
    )


def test_without_bars_it_does_not_speak() -> None:
    view = look(TRIO, MARCH_2010, PRICES)
    close = view.window.close.copy()
    close[-1, 1] = np.nan
    silent = Fundamentals(
        type(view.window)(*(close if part is view.window.close else part for part in vars(view.window).values())),
        Accounts(view.accounts.companies),
        view.price,
    )
    found = forecast(AGENTS["fundamental.value"], silent.window, silent)
    assert why(found)[1][0] is Reason.STALE_DATA
    assert why(found)[0][1] == "1 other companies to compare with, 2 are needed"
