"""`market: bars`: orders fill on the bars that come after them."""
