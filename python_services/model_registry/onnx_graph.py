"""What an ONNX file says of itself, without ONNX's library: inputs, outputs, operators, data kept elsewhere.

The few messages of onnx.proto that matter are declared here with their numbers (onnx/onnx.proto, IR version 10), in a
descriptor pool of their own. Fields that are not declared, the weights above all, are skipped by the parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from alphamesh.model.v1 import model_pb2

_F = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "alphamesh.onnx"
_SHAPES: Mapping[str, tuple[tuple[int, str, str, bool], ...]] = {  # message -> (number, name, type, repeated)
    "Model": ((1, "ir_version", "int64", False), (7, "graph", "Graph", False), (8, "opset_import", "Opset", True),
              (25, "functions", "Function", True)),
    "Opset": ((1, "domain", "string", False), (2, "version", "int64", False)),
    "Function": ((7, "node", "Node", True),),
    "Graph": ((1, "node", "Node", True), (5, "initializer", "Tensor", True), (11, "input", "Value", True),
              (12, "output", "Value", True), (15, "sparse_initializer", "SparseTensor", True)),
    "Node": ((4, "op_type", "string", False), (5, "attribute", "Attribute", True), (7, "domain", "string", False)),
    "Attribute": ((5, "t", "Tensor", False), (6, "g", "Graph", False), (10, "tensors", "Tensor", True),
                  (11, "graphs", "Graph", True), (22, "sparse_tensor", "SparseTensor", False),
                  (23, "sparse_tensors", "SparseTensor", True)),
    "Tensor": ((8, "name", "string", False), (13, "external_data", "Entry", True),
               (14, "data_location", "int64", False)),
    "SparseTensor": ((1, "values", "Tensor", False), (2, "indices", "Tensor", False)),
    "Entry": ((1, "key", "string", False), (2, "value", "string", False)),
    "Value": ((1, "name", "string", False), (2, "type", "Type", False)),
    "Type": ((1, "tensor_type", "TensorType", False),),
    "TensorType": ((1, "elem_type", "int64", False), (2, "shape", "Shape", False)),
    "Shape": ((1, "dim", "Dimension", True),),
    "Dimension": ((1, "dim_value", "int64", False), (2, "dim_param", "string", False)),
}  # fmt: skip
_SCALARS = {"int64": _F.TYPE_INT64, "string": _F.TYPE_STRING}
_TYPES = {
    1: model_pb2.TensorSpec.DATA_TYPE_FP32,
    6: model_pb2.TensorSpec.DATA_TYPE_INT32,
    7: model_pb2.TensorSpec.DATA_TYPE_INT64,
    9: model_pb2.TensorSpec.DATA_TYPE_BOOL,
    10: model_pb2.TensorSpec.DATA_TYPE_FP16,
    11: model_pb2.TensorSpec.DATA_TYPE_FP64,
}
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})  # operators of others are libraries to be loaded


class GraphError(ValueError):
    """The content is no ONNX model that may be served; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Inputs without initializers and outputs, as a signature has them."""

    inputs: tuple[model_pb2.TensorSpec, ...]
    outputs: tuple[model_pb2.TensorSpec, ...]


def read(content: bytes) -> Graph:
    """Raises GraphError: not ONNX, data outside of the file, operators of a library, tensors of another kind."""
    model = _message()()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise GraphError("it is no protobuf message") from error
    if not (model.ir_version and model.HasField("graph") and model.graph.output and model.opset_import):
        raise GraphError("it has no ONNX graph with outputs")
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        _check_node(node)
    _check_graph(model.graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    return Graph(
        inputs=tuple(_spec(value) for value in model.graph.input if value.name not in constants),
        outputs=tuple(_spec(value) for value in model.graph.output),
    )


def _check_graph(graph: Any) -> None:
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for sparse in graph.sparse_initializer:
        _check_sparse(sparse)


def _check_node(node: Any) -> None:
    if node.domain not in DOMAINS:
        raise GraphError(f"operator {node.op_type!r} is of the domain {node.domain!r}, which is a library of its own")
    for attribute in node.attribute:
        for tensor in _tensors(attribute):
            _check_tensor(tensor)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            _check_sparse(sparse)
        for graph in (attribute.g, *attribute.graphs):
            _check_graph(graph)
            for inner in graph.node:
                _check_node(inner)


def _tensors(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors


def _check_sparse(sparse: Any) -> None:
    _check_tensor(sparse.values)
    _check_tensor(sparse.indices)


def _check_tensor(tensor: Any) -> None:
    if tensor.data_location or tensor.external_data:
        raise GraphError(f"tensor {tensor.name!r} lies in another file; save the model as one file")


def _spec(value: Any) -> model_pb2.TensorSpec:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        raise GraphError(f"{value.name!r} is no tensor of numbers that can be served (element type {tensor.elem_type})")
    shape = [
        -1 if dimension.dim_param or not dimension.dim_value else dimension.dim_value for dimension in tensor.shape.dim
    ]
    return model_pb2.TensorSpec(name=value.name, data_type=_TYPES[tensor.elem_type], shape=shape)


@cache
def _message() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="alphamesh/onnx.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _SHAPES.items():
        message = file.message_type.add(name=name)
        for number, field, kind, repeated in fields:
            added = message.field.add(
                name=field, number=number, label=_F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
            )
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = _F.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
