"""Errors that cross a service boundary: raised as `ServiceError`, sent as a status with ErrorInfo.

Status codes carry one meaning each: UNAVAILABLE = retry this call; ABORTED = retry the higher-level
step; FAILED_PRECONDITION = do not retry. Source: google.aip.dev/193, google.rpc.ErrorInfo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from execution_core.errors import CoreError, InfeasibleError

DOMAIN = "alphamesh"

# What gRPC says of a call whose server was killed while it answered: under UNKNOWN when the two were connected, under
# INTERNAL when a sidecar stood between them and reset the stream.
_CUT_OFF = ("Stream removed", "RST_STREAM")


class ServiceError(Exception):
    """A failure with a status code, a machine-readable reason and a remedy for a person."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)

    def to_status(self) -> grpc.Status:
        """The grpc.Status with ErrorInfo, and BadRequest when fields are to blame."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        details = [_pack(info)]
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for field, description in self.violations:
                bad.field_violations.add(field=field, description=description)
            details.append(_pack(bad))
        number = int(code_pb2.Code.Value(self.code.name))
        return rpc_status.to_status(status_pb2.Status(code=number, message=self.message, details=details))


def invalid(field: str, problem: str, remedy: str) -> ServiceError:
    """INVALID_ARGUMENT that names the field and the remedy."""
    text = f"{field}: {problem}; {remedy}"
    return ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", text, violations=[(field, text)])


def not_found(kind: str, identifier: str, remedy: str = "") -> ServiceError:
    """NOT_FOUND for a named thing."""
    message = f"{kind} {identifier!r} is not known" + (f"; {remedy}" if remedy else "")
    return ServiceError(grpc.StatusCode.NOT_FOUND, f"{kind.upper()}_NOT_FOUND", message, metadata={kind: identifier})


def precondition(reason: str, message: str, **metadata: str) -> ServiceError:
    """FAILED_PRECONDITION: repeating the call does not help."""
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, reason, message, metadata=metadata)


def aborted(reason: str, message: str, **metadata: str) -> ServiceError:
    """ABORTED: read again, then retry the whole step."""
    return ServiceError(grpc.StatusCode.ABORTED, reason, message, metadata=metadata)


def from_exception(error: BaseException) -> ServiceError | None:
    """Maps known exceptions on purpose; None for one that nobody planned for."""
    match error:
        case ServiceError():
            return error
        case InfeasibleError():
            return precondition("INFEASIBLE", str(error), field=error.field)
        case CoreError():
            return invalid(error.field, error.problem, error.remedy)
        case grpc.aio.AioRpcError():
            return from_rpc_error(error)
        case NotImplementedError():
            return ServiceError(grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", str(error) or "not implemented")
        case TimeoutError():
            return ServiceError(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", str(error) or "ran out of time")
        case _:
            return None


def is_away(error: grpc.aio.AioRpcError, *, slow: bool = False) -> bool:
    """Whether the service is not there, or was killed while it answered; with `slow`, also that it took too long."""
    code = error.code()
    if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
        return any(text in (error.details() or "") for text in _CUT_OFF)
    return code is grpc.StatusCode.UNAVAILABLE or (slow and code is grpc.StatusCode.DEADLINE_EXCEEDED)


def from_rpc_error(error: grpc.aio.AioRpcError) -> ServiceError:
    """Reads a typed error back from the status of a call."""
    info, violations = error_details_pb2.ErrorInfo(), []
    status = rpc_status.from_call(cast(grpc.Call, error))
    for detail in status.details if status is not None else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = [(v.field, v.description) for v in bad.field_violations]
    code = grpc.StatusCode.UNAVAILABLE if is_away(error) else error.code()
    return ServiceError(
        code,
        info.reason or code.name,
        error.details() or error.code().name,
        metadata=dict(info.metadata),
        violations=violations,
    )


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
