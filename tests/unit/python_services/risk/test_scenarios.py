"""Scenario files: what is read from a good one, and that a bad one names file, field and remedy."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from python_services.kit.config import ConfigError
from python_services.risk import scenarios
from python_services.risk.scenarios import Covariance, Historical, Hypothetical, Reverse


def read(text: str) -> tuple[scenarios.Scenario, ...]:
    return scenarios.parse(yaml.safe_load(text), "my.yaml")


def test_the_bundled_file_holds_every_kind() -> None:
    listed = scenarios.load("bundled:scenarios.yaml")
    assert {type(scenario.kind) for scenario in listed} == {Historical, Hypothetical, Covariance, Reverse}
    assert len({scenario.name for scenario in listed}) == len(listed)
    lehman = next(scenario.kind for scenario in listed if scenario.name == "lehman_2008")
    assert isinstance(lehman, Historical)
    assert lehman.start_ns == int(datetime(2008, 9, 15, tzinfo=UTC).timestamp()) * 10**9
    assert lehman.end_ns == int(datetime(2008, 10, 11, tzinfo=UTC).timestamp()) * 10**9


def test_an_instruments_own_move_counts_before_its_sectors_and_that_before_all() -> None:
    (scenario,) = read(
        "scenarios: [{name: a, hypothetical: {all: -0.1, sectors: {Energy: -0.2}, instruments: {XOM: -0.3}}}]"
    )
    assert isinstance(scenario.kind, Hypothetical)
    assert scenario.kind.move("XOM", "Energy") == -0.3
    assert scenario.kind.move("CVX", "Energy") == -0.2
    assert scenario.kind.move("IBM", "Technology") == -0.1
    (only,) = read("scenarios: [{name: a, hypothetical: {sectors: {Energy: -0.2}}}]")
    assert isinstance(only.kind, Hypothetical)
    assert only.kind.move("IBM", "Technology") == 0.0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "my.yaml: expected a mapping"),
        ("scenarios: 3", "my.yaml: scenarios: expected a list"),
        ("scenarios: [{}]", "scenarios[0]: missing key 'name'"),
        ("scenarios: [{name: a}]", "scenarios[0]: give exactly one of"),
        ("scenarios: [{name: a, reverse: {loss: 0.1}, covariance: {volatility_factor: 2}}]", "not 2"),
        ("scenarios: [{name: a, replay: {}}]", "unknown key 'replay'"),
        ("scenarios: [{name: a, historical: {start: soon, end: 2001-01-01}}]", "scenarios[0].historical.start"),
        ("scenarios: [{name: a, historical: {start: 2002-01-01, end: 2001-01-01}}]", "is before start 2002-01-01"),
        ("scenarios: [{name: a, historical: {start: 2002-01-01}}]", "missing key 'end'"),
        ("scenarios: [{name: a, hypothetical: {}}]", "no move is given"),
        ("scenarios: [{name: a, hypothetical: {all: -1.5}}]", "scenarios[0].hypothetical.all: expected a number"),
        ("scenarios: [{name: a, hypothetical: {sectors: {E: x}}}]", "scenarios[0].hypothetical.sectors.E"),
        ("scenarios: [{name: a, hypothetical: {all: .nan}}]", "hypothetical.all"),
        ("scenarios: [{name: a, covariance: {correlation_to_one: 2}}]", "covariance.correlation_to_one"),
        ("scenarios: [{name: a, reverse: {loss: 0}}]", "reverse.loss"),
        ("scenarios: [{name: a, reverse: {loss: 0.1}}, {name: a, reverse: {loss: 0.2}}]", "scenarios[1].name"),
    ],
)
def test_a_bad_file_is_refused_with_the_field(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert named in str(caught.value)
    assert "my.yaml" in str(caught.value)


def test_a_missing_file_and_no_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        scenarios.load(str(tmp_path / "nowhere.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("scenarios: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml: no YAML"):
        scenarios.load(str(broken))


def test_an_instrument_nobody_lists_is_refused() -> None:
    listed = read("scenarios: [{name: a, hypothetical: {instruments: {XMO: -0.3}}}]")
    with pytest.raises(ConfigError, match=r"scenarios\[0\]\.hypothetical\.instruments\.XMO"):
        scenarios.check_instruments(listed, ["XOM"], "my.yaml")
    scenarios.check_instruments(listed, ["XMO"], "my.yaml")


def test_a_stretch_ends_with_its_last_day() -> None:
    stretch = Historical(start=date(2001, 9, 17), end=date(2001, 9, 17))
    assert stretch.end_ns - stretch.start_ns == scenarios.DAY_NS
