"""AlphaMesh services: one folder each, all of the same shape, on top of `kit`."""
