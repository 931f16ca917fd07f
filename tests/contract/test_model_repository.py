"""triton_models/ against the published ModelConfig: what a stock Triton image would refuse, or understand otherwise."""

from __future__ import annotations

from pathlib import Path

import onnx
import orjson
import pytest

from inference import model_config_pb2
from mesh.topology import ROOT
from mesh.triton_models import read_config, versions

MODELS = sorted(path.parent for path in (ROOT / "triton_models").glob("*/config.pbtxt"))
ELEMENTS = {
    "TYPE_BOOL": onnx.TensorProto.BOOL,
    "TYPE_INT32": onnx.TensorProto.INT32,
    "TYPE_INT64": onnx.TensorProto.INT64,
    "TYPE_FP16": onnx.TensorProto.FLOAT16,
    "TYPE_FP32": onnx.TensorProto.FLOAT,
    "TYPE_FP64": onnx.TensorProto.DOUBLE,
}
# What our python-based backend takes no notice of would make the native one behave otherwise.
UNDERSTOOD = {
    *("name", "backend", "max_batch_size", "input", "output", "dynamic_batching", "version_policy"),
    *("parameters", "model_warmup"),
}


@pytest.fixture(params=MODELS, ids=lambda path: path.name)
def model(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_field_is_one_of_the_published_schema_and_understood_here(model: Path):
    config = read_config(model / "config.pbtxt")  # unknown fields, types and values are errors there
    fields = {field.name for field, _ in config.ListFields()}
    assert "instance_group" not in fields, "leave it out: a run adds one process on the CPU, an image takes its GPUs"
    assert fields <= UNDERSTOOD
    assert config.max_batch_size >= 0
    for tensor in (*config.input, *config.output):
        assert model_config_pb2.DataType.Name(tensor.data_type) in ELEMENTS
        assert tensor.dims
        assert all(n == -1 or n > 0 for n in tensor.dims)


def test_each_version_has_the_tensors_of_the_configuration(model: Path):
    config = read_config(model / "config.pbtxt")
    found = versions(model)
    assert found, f"{model.name} has no version"
    for version in found:
        graph = onnx.load(model / str(version) / "model.onnx", load_external_data=False).graph
        inputs = {tensor.name for tensor in graph.input} - {tensor.name for tensor in graph.initializer}
        assert inputs == {tensor.name for tensor in config.input}
        known = {tensor.name: tensor.type.tensor_type for tensor in (*graph.input, *graph.output)}
        for tensor in (*config.input, *config.output):
            assert known[tensor.name].elem_type == ELEMENTS[model_config_pb2.DataType.Name(tensor.data_type)]


def test_each_version_has_golden_rows_that_fit(model: Path):
    config = read_config(model / "config.pbtxt")
    for version in versions(model):
        golden = orjson.loads((model / str(version) / "golden.json").read_bytes())
        for kind, tensors in (("inputs", config.input), ("outputs", config.output)):
            assert set(golden[kind]) == {tensor.name for tensor in tensors}
            for tensor in tensors:
                item, batched = golden[kind][tensor.name], config.max_batch_size > 0
                assert f"TYPE_{item['datatype']}" == model_config_pb2.DataType.Name(tensor.data_type)
                dims = item["shape"][1:] if batched else item["shape"]
                assert len(dims) == len(tensor.dims)
                assert all(wanted in (-1, n) for wanted, n in zip(tensor.dims, dims, strict=True))
