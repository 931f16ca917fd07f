"""Expected failures as one message for a person: what, why, remedy. Everything else is a bug and keeps its trace."""

from __future__ import annotations

import grpc

from python_services.kit.config import ConfigError
from python_services.kit.errors import ServiceError, from_rpc_error
from python_services.kit.journal import JournalError

from .errors import MeshError

_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "see `alphamesh status` and `alphamesh logs`",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the service is busy or stuck; see `alphamesh status` and `alphamesh logs`",
    grpc.StatusCode.INTERNAL: "see `alphamesh logs`",
    grpc.StatusCode.UNKNOWN: "see `alphamesh logs`",
}


def explained(error: BaseException) -> str | None:
    """The message; None for an error that nobody planned for."""
    match error:
        case MeshError() | ConfigError() | JournalError():
            return str(error)
        case grpc.aio.AioRpcError():
            return explained(from_rpc_error(error))
        case ServiceError():
            text = f"{error.message} [{error.reason}]"
            hint = _HINTS.get(error.code)
            return f"{text}; {hint}" if hint else text
        case BaseExceptionGroup():
            messages = [explained(inner) for inner in error.exceptions]
            return None if None in messages else "\n".join(filter(None, messages))
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}"
        case _ if type(error).__name__ == "LocalSystemError":
            return explained(error.__cause__) if error.__cause__ and explained(error.__cause__) else str(error)
        case _:
            return None
