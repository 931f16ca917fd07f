"""Model registry: which versions exist, what they were made from, which one answers, and how it does."""
