"""What is refused by content, and what is read out of an ONNX file without ONNX."""

from __future__ import annotations

import io
import pickle

import joblib
import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from alphamesh.model.v1 import model_pb2
from python_services.model_registry import formats, onnx_graph
from python_services.model_registry.formats import FormatError
from tests.services.models import made


def joblibbed(compress: object) -> bytes:
    stream = io.BytesIO()
    joblib.dump({"a": np.ones(3)}, stream, compress=compress)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps({"weights": [1.0, 2.0]}, protocol=protocol) for protocol in range(6)),
        *(pickle.dumps(made.graph, protocol=protocol) for protocol in range(6)),
        *(joblibbed(compress) for compress in (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3))),
    ],
)
def test_pickles_are_refused_however_they_are_wrapped(content: bytes) -> None:
    with pytest.raises(FormatError, match="pickle"):
        formats.detect(content)


def test_a_pickle_that_calls_itself_onnx_is_refused() -> None:
    with pytest.raises(FormatError, match="pickle"):
        formats.check(pickle.dumps(1), model_pb2.Artifact.FORMAT_ONNX, made.signature())


def test_safetensors_and_arrow_are_known_and_are_no_onnx() -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert formats.detect(len(header).to_bytes(8, "little") + header + bytes(4)) == (
        model_pb2.Artifact.FORMAT_SAFETENSORS
    )
    sink = io.BytesIO()
    table = pa.table({"w": [1.0]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert formats.detect(sink.getvalue()) == model_pb2.Artifact.FORMAT_ARROW_COEFFICIENTS
    with pytest.raises(FormatError, match="ARROW_COEFFICIENTS, not ONNX"):
        formats.check(sink.getvalue(), model_pb2.Artifact.FORMAT_ONNX, made.signature())


def test_the_graph_is_what_onnx_says_it_is() -> None:
    found = onnx_graph.read(made.graph(columns=2))
    assert [(spec.name, list(spec.shape)) for spec in found.inputs] == [("features", [-1, 3])]
    assert [(spec.name, list(spec.shape)) for spec in found.outputs] == [("up_probability", [-1, 2])]


def test_what_lies_outside_or_hides_in_a_branch_is_found() -> None:
    model = onnx.load_model_from_string(made.graph())
    hidden = numpy_helper.from_array(np.ones((3, 1), np.float32), "hidden")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph([], "branch", [], [], [hidden])
    model.graph.node.append(helper.make_node("If", ["z"], ["y"], then_branch=branch, else_branch=branch))
    with pytest.raises(onnx_graph.GraphError, match="'hidden' lies in another file"):
        onnx_graph.read(model.SerializeToString())


def test_operators_of_a_library_are_refused() -> None:
    model = onnx.load_model_from_string(made.graph())
    model.graph.node[0].domain = "my.library"
    with pytest.raises(onnx_graph.GraphError, match=r"my\.library"):
        onnx_graph.read(model.SerializeToString())
