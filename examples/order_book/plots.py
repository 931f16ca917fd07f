"""The pictures of docs/order_book.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from execution_core.types import Side

from .strategies import SECOND, TICK, Execution

mpl.use("Agg")

from matplotlib import pyplot as plt


def draw(folder: Path, making: dict[str, Any], executions: list[Execution]) -> list[Path]:
    """Writes the pictures into `folder` and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_making(folder / "market_maker.png", making), _executions(folder / "algorithms.png", executions)]


def _making(path: Path, making: dict[str, Any]) -> Path:
    seen, ahead, fills = making["seen"], making["ahead"], making["fills"]
    start = seen[0, 0]
    seconds = (seen[:, 0] - start) / SECOND
    figure, (price, queue, held) = plt.subplots(3, 1, figsize=(10, 8), sharex=True, height_ratios=[3, 1, 1])
    price.plot(seconds, seen[:, 1] * TICK, linewidth=0.6, label="best bid")
    price.plot(seconds, seen[:, 2] * TICK, linewidth=0.6, label="best ask")
    for side, marker, colour in ((Side.BUY, "^", "tab:green"), (Side.SELL, "v", "tab:red")):
        own = fills[fills["side"] == side]
        times = (own["ts_event_ns"] - start) / SECOND
        price.scatter(times, own["price"] * TICK, s=12, marker=marker, color=colour, label=f"own {side.name.lower()}")
    price.set_ylabel("USDT")
    price.legend(loc="upper left", fontsize=8)
    price.set_title("Market maker on BTCUSDT, risk-averse queue")
    queue.plot(seconds, ahead / 1000, linewidth=0.6)
    queue.set_yscale("symlog", linthresh=0.1)
    queue.set_ylabel("BTC ahead\nof our bid")
    held.step(seconds, seen[:, 3] / 1000, linewidth=0.8, where="post")
    held.set_ylabel("position, BTC")
    held.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _executions(path: Path, executions: list[Execution]) -> Path:
    figure, (progress, cost) = plt.subplots(1, 2, figsize=(10, 4))
    for execution in executions:
        fills = execution.fills
        seconds = (fills["ts_event_ns"] - execution.start_ns) / SECOND
        progress.step(seconds, np.cumsum(fills["lots"]) / 1000, where="post", label=execution.name, linewidth=1.0)
        slippage = 1e4 * (fills["price"] / execution.arrival - 1)
        running = np.cumsum(slippage * fills["lots"]) / np.cumsum(fills["lots"])
        cost.plot(seconds, running, linewidth=1.0)
    progress.set_ylabel("BTC bought")
    progress.set_xlabel("seconds")
    progress.legend(fontsize=8)
    cost.set_ylabel("average price over arrival, bps")
    cost.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
