"""A small real endpoint that answers as a language model's does."""
