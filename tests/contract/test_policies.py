"""The policies beside the contracts: each names what exists, and says of a call only what its contract allows."""

from __future__ import annotations

import json

import pytest
from google.protobuf import descriptor_pool

from mesh.envoy.routes import virtual_hosts
from mesh.methods import unknown_method
from python_services.kit import policy
from python_services.kit.policy import PolicyError

CONTROL = "alphamesh.mesh.v1.ControlService"
METHOD = "alphamesh.execution.v1.ExecutionService/SubmitOrders"


def entry(**values: object) -> bytes:
    retry = {
        "maxAttempts": 3, "initialBackoff": "0.025s", "maxBackoff": "0.25s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"], **values,
    }  # fmt: skip
    service, method = METHOD.split("/")
    body = {"name": [{"service": service, "method": method}], "timeout": "5s", "retryPolicy": retry}
    return json.dumps({"methodConfig": [body]}).encode()


@pytest.mark.parametrize("method", sorted(policy.every()))
def test_a_policy_is_of_a_method_that_a_contract_has(method):
    assert unknown_method(method.removeprefix("/")) == ""


def test_a_policy_of_nothing_would_be_found():
    assert "has no method 'SubmitOrder'" in unknown_method(METHOD.removesuffix("s"))
    assert "no contract has a service" in unknown_method("alphamesh.execution.v1.Execution/*")


@pytest.mark.parametrize("method", sorted(policy.every()))
def test_streams_have_no_deadline_and_no_retry_and_what_is_repeated_can_be(method):
    """What is repeated reads only, or carries the request_id by which a repeat gets the first answer."""
    service, _, name = method.removeprefix("/").partition("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods
    own = {path for path in policy.every() if path.startswith(f"/{service}/")}
    covered = [each for each in found if (f"/{service}/{each.name}" not in own if name == "*" else each.name == name)]
    assert covered
    reads = ("Get", "List", "Verify", "Backtest", "Compute", "Check")
    for each in covered:
        its = policy.of(f"/{service}/{each.name}")
        if each.server_streaming or each.client_streaming:
            assert (its.timeout_s, its.retry) == (0.0, None), each.full_name
        else:
            assert its.timeout_s > 0
            if service == CONTROL:  # the supervisor's own socket, which no sidecar stands before
                continue
            assert its.retry is not None
            assert "request_id" in each.input_type.fields_by_name or each.name.startswith(reads), each.full_name


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"retryableStatusCodes": ["UNAVAILABLE", "INTERNAL"]}, "only UNAVAILABLE says that a call may be repeated"),
        ({"maxAttempts": 9}, "maxAttempts is 9; use 2 to 5"),
        ({"backoffMultiplier": 3}, "backoffMultiplier must be 2"),
    ],
)
def test_a_policy_that_the_sidecars_cannot_keep_is_refused(values, says):
    with pytest.raises(PolicyError, match=says):
        policy.parse([entry(**values)])


def test_a_method_has_one_policy():
    with pytest.raises(PolicyError, match="has two policies; remove one"):
        policy.parse([entry(), entry()])


def test_routes_say_what_the_policies_say():
    service = "alphamesh.execution.v1.ExecutionService"
    execution, unlisted = virtual_hosts({"execution": {"c": 100}}, {"execution": [f"{service}/*"]}, {"execution": ""})
    by_match = {tuple(route["match"].items()): route for route in execution["routes"]}
    stream = by_match[(("path", f"/{service}/StreamEvents"),)]
    assert stream["route"]["retry_policy"]["retry_on"] == "connect-failure,refused-stream"
    others = by_match[(("prefix", f"/{service}/"),)]["route"]["retry_policy"]
    assert others["retry_on"].startswith("unavailable,")
    assert (others["num_retries"], others["retry_back_off"]["base_interval"]) == (2, "0.025s")
    for last in (execution["routes"][-1], unlisted["routes"][-1]):
        assert last["direct_response"]["status"] == 403
    single, _ = virtual_hosts({"execution": {"a": 9, "b": 1}}, {"execution": [METHOD]}, {"execution": "x-key"})
    assert single["routes"][0]["route"]["hash_policy"] == [{"header": {"header_name": "x-key"}}]
    assert [route["match"] for route in single["routes"]] == [
        {"path": f"/{METHOD}"}, {"path": "/grpc.health.v1.Health/Check"}, {"prefix": "/"},
    ]  # fmt: skip
    clusters = single["routes"][0]["route"]["weighted_clusters"]["clusters"]
    assert clusters == [{"name": "a", "weight": 9}, {"name": "b", "weight": 1}]
