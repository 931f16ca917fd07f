"""How Triton is started, and what its model repository is made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from google.protobuf import text_format

from inference import model_config_pb2
from mesh import logs, triton, triton_models
from mesh.rundir import RunDir
from mesh.triton import TritonServer
from mesh.triton_models import ModelError
from mesh.triton_section import Triton, administers
from tests import tiny_models


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tiny_models.write_model(tmp_path / "source", "tiny", 2)
    tiny_models.write_linear(folder, 1, (1.0, 2.0))
    return tmp_path / "source"


def config(models: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((models / "tiny" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_the_repository_is_a_copy_in_which_every_version_is_served_once(tmp_path, source):
    models = tmp_path / "run" / "models"
    assert triton_models.fill(models, source) == ["tiny"]
    found = config(models)
    assert found.version_policy.WhichOneof("policy_choice") == "all"
    assert [group.count for group in found.instance_group] == [1]
    assert [tensor.name for tensor in (*found.input, *found.output)] == ["features", "score"]
    assert (models / "tiny" / "1" / "golden.json").is_file()
    assert "version_policy" not in (source / "tiny" / "config.pbtxt").read_text()

    tiny_models.write_linear(source / "tiny", 2, (1.0, 2.0))
    triton_models.fill(models, source)  # again, as at the next start
    assert triton_models.versions(models / "tiny") == [1, 2]


def test_a_version_that_was_put_aside_does_not_come_back_and_a_changed_one_is_refused(tmp_path, source):
    models = tmp_path / "run" / "models"
    triton_models.fill(models, source)
    assert (triton_models.put_aside(models, "tiny", 1) / "model.onnx").is_file()
    assert triton_models.fill(models, source) == []
    tiny_models.write_linear(source / "tiny", 2, (1.0, 2.0))
    triton_models.fill(models, source)
    tiny_models.write_linear(source / "tiny", 2, (3.0, 2.0))
    with pytest.raises(ModelError, match="never changed"):
        triton_models.fill(models, source)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name: "tiny"', 'name: "other"', "call it 'tiny'"),
        ('backend: "onnxruntime"', 'backend: "python"', "the backend is 'python'"),
        ("max_batch_size", "maximum_batch_size", "config.pbtxt:3:"),
        ("output {", "# {", "config.pbtxt:"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused_by_name(tmp_path, source, old, new, says):
    path = source / "tiny" / "config.pbtxt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ModelError) as caught:
        triton_models.fill(tmp_path / "models", source)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_a_version_without_a_model_is_refused(tmp_path, source):
    (source / "tiny" / "2").mkdir()
    with pytest.raises(ModelError, match="a version is nothing else"):
        triton_models.fill(tmp_path / "models", source)


def test_it_listens_on_unix_sockets_only_and_loads_nothing_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(triton, "find_program", lambda: Path("/tritonserver"))
    run = RunDir.create(tmp_path / "run")
    server = TritonServer(run, Triton(models=str(tmp_path)))
    left = Path("/dev/shm") / f"{triton.shared_memory_prefix(run.path)}left"
    left.touch()
    other = Path("/dev/shm") / f"{triton.shared_memory_prefix(tmp_path / 'other')}left"
    other.touch()
    try:
        command = server.command()
        assert not left.exists()
        assert other.exists()
    finally:
        other.unlink()
        run.release()
    options = dict(part.partition("=")[::2] for part in command[1:])
    assert options["--model-control-mode"] == "explicit"
    assert "--load-model" not in options
    assert options["--allow-http"] == "false"
    for kind in ("grpc", "metrics"):
        assert options[f"--{kind}-address"].startswith(f"unix:{run.sockets}")
    key = server.administration["admin_key"]
    assert len(key) >= 32
    assert options["--grpc-restricted-protocol"] == f"model-repository,shared-memory,trace,logging:admin-key={key}"
    assert run.socket("triton").readlink().name == "triton.sock:1"


def test_models_get_the_python_that_has_numpy_1_and_nothing_of_ours(tmp_path):
    run = RunDir(tmp_path / "run")
    found = TritonServer(run, Triton()).environment({"PATH": "/bin", "PYTHONPATH": "/here", "OMP_NUM_THREADS": "1"})
    assert found["PATH"].split(os.pathsep) == [str(triton.PYTHON / "bin"), "/bin"]
    assert found["LD_LIBRARY_PATH"].startswith(str(triton.SERVER))
    assert "PYTHONPATH" not in found
    assert found["OMP_NUM_THREADS"] == "1"


def test_who_may_load_models_is_read_from_the_edges():
    assert administers(("inference.GRPCInferenceService/ModelInfer", "inference.GRPCInferenceService/RepositoryIndex"))
    assert administers(("inference.GRPCInferenceService/*",))
    assert not administers(("inference.GRPCInferenceService/ModelInfer",))


@pytest.mark.parametrize(
    ("line", "level", "event"),
    [
        ('2026-01-02T03:04:05Z W 7 server.cc:1] "low on memory"', "warning", "low on memory"),
        ('2026-01-02T03:04:05Z E 7 server.cc:1] "no model"', "error", "no model"),
        ("| tiny  | 1       | READY  |", "info", "| tiny  | 1       | READY  |"),
    ],
)
def test_its_log_lines_keep_their_levels(line, level, event):
    record = logs.parse(logs.wrap("triton", line))
    assert (record["level"], record["event"]) == (level, event)
