"""Risk: limits, the verdict on each portfolio, and the policy that the gate enforces."""
