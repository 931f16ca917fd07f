"""The recorded market plays in the running venue: its book shows what was displayed, and others trade with it."""

from __future__ import annotations

from pathlib import Path

from examples.order_book import book_mode


async def test_the_recording_is_a_participant_that_others_trade_with(tmp_path: Path) -> None:
    player = await book_mode.replay(tmp_path, 4)
    assert player.counts["recorded trades"] > 50
    assert player.counts["rejected"] == 0
    assert player.counts["compared"] == 100
    assert player.counts["same"] >= 95
    # Trades of the recording met its displayed orders, and the visitor's.
    assert player.counts["fill"] >= player.counts["recorded trades"]
    assert player.visitor["fills"] > 0
    again = await book_mode.replay(tmp_path / "again", 4)
    assert (again.counts, again.visitor) == (player.counts, player.visitor)
