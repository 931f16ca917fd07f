"""policy.yaml: how the agents of a session decide together, as the contract's CoordinationPolicy.

Read strictly: an unknown key, a value of another type and a value that the contract forbids are refused with file and
line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import protovalidate
import yaml
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

from alphamesh.decision.v1 import policy_pb2
from python_services.kit.violations import field_path

from .errors import MeshError

DEFAULT_PATH = Path(__file__).with_name("policy.yaml")
_WHOLE = (Field.CPPTYPE_INT32, Field.CPPTYPE_INT64)
Lines: TypeAlias = dict[str, int]


class PolicyError(MeshError):
    """A policy that cannot be used; the message has file, line, problem and remedy."""


def load(path: Path = DEFAULT_PATH) -> policy_pb2.CoordinationPolicy:
    """The policy in `path`. Raises PolicyError."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; correct --policy") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{path}:{line}: {error.problem}; correct the YAML") from error
    policy = policy_pb2.CoordinationPolicy()
    lines: Lines = {}
    _fill(path, policy, node, "", lines)
    for violation in protovalidate.collect_violations(policy):
        where = field_path(violation)
        line = lines.get(where) or lines.get(where.rpartition(".")[0], 1)
        said = violation.proto.message or violation.proto.rule_id
        raise PolicyError(f"{path}:{line}: {f'{where}: ' if where else ''}{said}; correct it")
    return policy


def _fill(path: Path, message: Message, node: yaml.Node | None, where: str, lines: Lines) -> None:
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node is not None else 1
        raise PolicyError(f"{path}:{line}: {where or 'the policy'} is no mapping; write `name: value` lines")
    fields = {field.name: field for field in message.DESCRIPTOR.fields}
    seen = set()
    for key_node, value in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key not in fields:
            known = ", ".join(fields)
            raise PolicyError(f"{path}:{line}: {where or 'the policy'} has an unknown key {key!r}; known: {known}")
        if key in seen:
            raise PolicyError(f"{path}:{line}: {where or 'the policy'} has {key!r} twice; remove one")
        seen.add(key)
        name = f"{where}.{key}" if where else key
        lines[name] = line
        field = fields[key]
        if not field.is_repeated:
            _set(path, message, field, value, name, lines)
        elif not isinstance(value, yaml.SequenceNode):
            raise PolicyError(f"{path}:{line}: {name} is no list; write `- ` lines or [...]")
        else:
            for index, item in enumerate(value.value):
                lines[f"{name}[{index}]"] = item.start_mark.line + 1
                _fill(path, getattr(message, key).add(), item, f"{name}[{index}]", lines)


def _set(path: Path, message: Message, field: Any, node: yaml.Node, name: str, lines: Lines) -> None:
    if field.message_type is not None:
        _fill(path, getattr(message, field.name), node, name, lines)
        return
    value: Any = yaml.safe_load(yaml.serialize(node)) if isinstance(node, yaml.ScalarNode) else None
    wanted, kinds = "a text", (str,)  # type: tuple[str, tuple[type, ...]]
    if field.cpp_type == Field.CPPTYPE_BOOL:
        wanted, kinds = "true or false", (bool,)
    elif field.cpp_type in _WHOLE:
        wanted, kinds = "a whole number", (int,)
    elif field.cpp_type == Field.CPPTYPE_DOUBLE:
        wanted, kinds = "a number", (int, float)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise PolicyError(f"{path}:{node.start_mark.line + 1}: {name} cannot be {value!r}; write {wanted}")
    try:
        setattr(message, field.name, value)
    except ValueError as error:
        raise PolicyError(f"{path}:{node.start_mark.line + 1}: {name}: {error}; write a smaller number") from error
