"""`market: book`: orders of all accounts trade with each other in price-time-priority books."""
