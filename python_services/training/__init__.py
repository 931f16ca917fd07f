"""Trains models, apart from inference."""
