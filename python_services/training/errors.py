"""Why a job ends FAILED: a reason for programs, a message with the remedy for people."""

from __future__ import annotations


class TrainingError(Exception):
    """Training cannot go on. `reason` in capitals, for example "DATA_TOO_SHORT"; `message` names the remedy."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
