"""What a reply must be before anybody reads it, and what is sent."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from inference import grpc_service_pb2
from python_services.kit import inference, inference_admin
from python_services.kit.inference import InferenceClient, InferenceError, Reason
from tests import tiny_models

ROWS = np.array([[1, 2, 3]], np.float32)
OUTPUTS = {"score": (1, 1)}


class Scripted:
    """Stands where a generated stub does: the replies are ones that no healthy server gives."""

    def __init__(self, change=None) -> None:
        self.change = change
        self.asked = 0

    async def ModelInfer(self, request, **options):
        self.asked += 1
        self.request = request
        reply = grpc_service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        reply.outputs.add(name="score", datatype="FP32", shape=[1, 1])
        reply.raw_output_contents.append(np.array([0.5], "<f4").tobytes())
        if self.change:
            self.change(reply)
        return reply


async def ask(stub: Scripted, **options):
    return await InferenceClient(stub, **options).infer("model", 2, {"features": ROWS}, OUTPUTS)


async def test_the_version_is_named_and_tensors_are_raw_and_little_endian():
    stub = Scripted()
    client = InferenceClient(stub)
    found = await client.infer("model", 2, {"features": ROWS.astype(">f4")}, OUTPUTS)
    assert found["score"].tolist() == [[0.5]]
    assert not found["score"].flags.writeable
    assert stub.request.model_version == "2"
    assert (stub.request.inputs[0].datatype, list(stub.request.inputs[0].shape)) == ("FP32", [1, 3])
    assert stub.request.raw_input_contents[0] == ROWS.astype("<f4").tobytes()


def truncate(reply):
    reply.raw_output_contents[0] = b"\0\0"


def empty(reply):
    reply.raw_output_contents[0] = b""


def no_output(reply):
    del reply.outputs[:]
    del reply.raw_output_contents[:]


def no_content(reply):
    del reply.raw_output_contents[:]


def other_version(reply):
    reply.model_version = "3"


def other_type(reply):
    reply.outputs[0].datatype = "BYTES"


def other_shape(reply):
    reply.outputs[0].shape[:] = [1]


def other_name(reply):
    reply.outputs[0].name = "label"


@pytest.mark.parametrize(
    "change", [truncate, empty, no_output, no_content, other_version, other_type, other_shape, other_name]
)
async def test_a_reply_that_is_not_what_was_asked_for_is_refused(change):
    with pytest.raises(InferenceError) as caught:
        await ask(Scripted(change))
    assert caught.value.reason == Reason.BAD_REPLY
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert "model/2" in caught.value.message


async def test_bad_replies_open_the_breaker_and_bad_questions_do_not():
    stub = Scripted(empty)
    client = InferenceClient(stub, failures=2, reset_s=60)
    for reason in (Reason.BAD_REPLY, Reason.BAD_REPLY, Reason.BREAKER_OPEN):
        with pytest.raises(InferenceError) as caught:
            await client.infer("model", 2, {"features": ROWS}, OUTPUTS)
        assert caught.value.reason == reason
    assert (stub.asked, client.breaker_state("model", 2), client.breaker_state("model", 1)) == (2, "open", "closed")


@pytest.mark.parametrize(
    ("version", "rows"),
    [(0, ROWS), (2, np.array([[np.inf]], np.float32)), (2, np.array([["text"]])), (2, ROWS.astype(complex))],
)
async def test_a_question_that_cannot_be_right_is_not_asked(version, rows):
    stub = Scripted()
    with pytest.raises(InferenceError) as caught:
        await InferenceClient(stub).infer("model", version, {"features": rows}, OUTPUTS)
    assert caught.value.reason == Reason.REJECTED
    assert stub.asked == 0


async def test_golden_rows_are_compared_with_their_tolerance(tmp_path: Path):
    client = InferenceClient(Scripted())
    assert not await inference_admin.check_golden(client, "model", 2, tmp_path, 1.0)
    tiny_models.write_golden(tmp_path, ROWS, np.array([[0.500001]], np.float32))
    assert await inference_admin.check_golden(client, "model", 2, tmp_path, 1.0)
    for content in (np.array([[0.51]], np.float32), None):
        if content is None:
            (tmp_path / "golden.json").write_text("{")
        else:
            tiny_models.write_golden(tmp_path, ROWS, content)
        with pytest.raises(InferenceError, match="golden"):
            await inference_admin.check_golden(client, "model", 2, tmp_path, 1.0)


def test_every_numeric_type_has_one_name():
    assert len(inference._NAMES) == len(inference.DTYPES)
