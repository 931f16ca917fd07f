"""Agents as users write them: each a package with one function over a window of bars."""
