"""Point-in-time features: one definition, one code path, for training and for inference."""
