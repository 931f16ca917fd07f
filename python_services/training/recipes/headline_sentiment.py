"""headline_sentiment: is a headline about a company or a market bearish, bullish or neutral.

The encoder (all-MiniLM-L6-v2, int8) stays as published; a head is fitted on labelled tweets, which are not part of the
project: give their path. Split by the hash of each text: 70% to fit, 15% to choose, 15% never looked at until the end.

    python -m python_services.training.recipes.headline_sentiment --data sent_train.csv.gz
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

from . import TrainContext, Trained


class HeadlineSentiment:
    """See the module."""

    model_id = "headline_sentiment"
    title = "Sentiment of a financial headline"
    reads: Literal["market", "files"] = "files"

    def defaults(self) -> Mapping[str, Any]:
        """The shipped version; `data` must be given, for the texts do not ship."""
        return {"model_id": self.model_id, "seed": 7, "parameters": {"data": ""}}

    def train(self, context: TrainContext) -> Trained:
        """See Recipe. Parameter `data`: a .csv.gz with columns text and label (0 bearish, 1 bullish, 2 neutral)."""
        from ..sentiment_training import train

        return train(context)


RECIPE = HeadlineSentiment()

if __name__ == "__main__":
    from ._command import main

    sys.exit(main(RECIPE, data="the labelled texts: .csv.gz with columns text and label"))
