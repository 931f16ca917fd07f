"""Returns out of snapshots with gaps, late listings and flat lines."""

from __future__ import annotations

import numpy as np

from python_services.kit.history import usable_returns

NAN = np.nan


def test_complete_columns_give_all_their_returns() -> None:
    close = np.array([[100.0, 10.0], [110.0, 9.0], [99.0, 9.9]])
    columns, returns = usable_returns(close, 2)
    assert columns.tolist() == [0, 1]
    np.testing.assert_allclose(returns, [[0.1, -0.1], [-0.1, 0.1]])


def test_a_gap_carries_the_last_close_forward() -> None:
    close = np.array([[100.0, 10.0], [110.0, NAN], [99.0, 11.0]])
    _, returns = usable_returns(close, 2)
    np.testing.assert_allclose(returns[:, 1], [0.0, 0.1])


def test_the_window_starts_with_the_youngest_column() -> None:
    close = np.array([[1.0, NAN, 5.0], [2.0, NAN, NAN], [3.0, 10.0, NAN], [4.0, 11.0, 6.0], [5.0, 12.0, 7.0]])
    columns, returns = usable_returns(close, 2)
    assert columns.tolist() == [0, 1, 2]
    assert returns.shape == (2, 3)
    # The third column's close from before the window is what its first return counts from.
    np.testing.assert_allclose(returns[0], [1 / 3, 0.1, 0.2])


def test_short_histories_and_flat_lines_are_left_out() -> None:
    close = np.array([[1.0, NAN, 5.0, NAN], [2.0, NAN, 5.0, NAN], [3.0, 3.0, 5.0, NAN]])
    columns, returns = usable_returns(close, 2)
    assert columns.tolist() == [0]
    assert returns.shape == (2, 1)


def test_nothing_usable_gives_nothing() -> None:
    columns, returns = usable_returns(np.full((5, 3), NAN), 2)
    assert columns.size == 0
    assert returns.size == 0
