"""Six minutes of BTCUSDT replayed through the simulated venue, with a market maker and execution algorithms."""
