"""Portfolio risk: covariance, value at risk, stress, options."""
