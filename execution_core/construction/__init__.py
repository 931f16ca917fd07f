"""Portfolio construction: from forecasts and covariance to weights, and from weights to lots."""
