"""What the command line turns into one line and an exit code."""

from __future__ import annotations


class MeshError(Exception):
    """An expected failure: the message names the thing and the remedy, and no traceback is shown."""
