import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mesh import rundir
from mesh.rundir import RunDir, RunDirError
from mesh.topology import Service


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def service(**config) -> Service:
    return Service(name="risk", module="m", sensitivity="public", config=config, calls=())


def test_a_new_run_is_private_and_becomes_the_latest():
    first = RunDir.create()
    second = RunDir.create()
    assert first.path != second.path
    assert RunDir.find().path == second.path
    for folder in ("sock", "config", "data", "logs", "nats"):
        assert stat.S_IMODE((second.path / folder).stat().st_mode) == 0o700
    second.write_config(service(limit=1), "nats://user:secret@127.0.0.1:1")
    assert stat.S_IMODE((second.path / "config" / "risk.json").stat().st_mode) == 0o600
    assert second.settings("risk")["config"] == {"limit": 1}
    assert second.settings("venue") is None
    first.release()
    second.release()


def test_a_given_directory_is_used_again_and_is_not_the_latest(tmp_path):
    run = RunDir.create(tmp_path / "mine")
    run.write_state({"pid": 1})
    run.release()
    again = RunDir.create(tmp_path / "mine")
    assert again.state() == {"pid": 1}
    assert not Path("var").exists()
    again.release()


def test_a_second_system_is_told_who_is_first(tmp_path):
    run = RunDir.create(tmp_path / "mine")
    assert run.holder() == os.getpid()
    with pytest.raises(RunDirError, match=rf"in use by process {os.getpid()}; stop that system with .alphamesh down"):
        RunDir.create(tmp_path / "mine")
    run.release()
    assert run.holder() is None
    RunDir.create(tmp_path / "mine").release()


def test_the_lock_ends_with_its_process(tmp_path):
    code = f"""
from mesh.rundir import RunDir
from pathlib import Path
import os
RunDir.create(Path({str(tmp_path / "mine")!r}))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    RunDir.create(tmp_path / "mine").release()


def test_a_path_too_long_for_sockets_gets_a_short_private_folder(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    run = RunDir.create(deep)
    assert (deep / "sock").is_symlink()
    short = run.sockets
    assert len(str(run.socket("technical_agent"))) <= rundir.SOCKET_PATH_LIMIT
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    run.socket("risk").touch()
    run.remove_sockets()
    run.release()
    assert not short.exists()
    RunDir.create(deep).release()


def test_somebody_elses_folder_is_not_used_for_sockets(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    run = RunDir.create(deep)
    short = run.sockets
    run.release()
    short.mkdir()
    short.chmod(0o777)
    try:
        with pytest.raises(RunDirError, match="belongs to somebody else"):
            RunDir.create(deep)
    finally:
        short.rmdir()


def test_no_run_yet_and_no_run_there(tmp_path):
    with pytest.raises(RunDirError, match=r"there is no run yet; start one with"):
        RunDir.find()
    with pytest.raises(RunDirError, match="holds no run"):
        RunDir.find(tmp_path)


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match=r"file.*: Not a directory; .*choose another --data-dir"):
        RunDir.create(tmp_path / "file" / "run")


def test_a_disk_that_is_almost_full(tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "MINIMUM_FREE_BYTES", 2**62)
    with pytest.raises(RunDirError, match=r"only \d+ MB are free on this disk; free at least"):
        RunDir.create(tmp_path / "run")


def test_a_full_disk_leaves_the_old_state_whole(tmp_path):
    run = RunDir.create(tmp_path / "run")
    run.write_state({"state": "RUNNING"})
    (run.path / "supervisor.new").symlink_to("/dev/full")
    with pytest.raises(RunDirError, match="No space left on device; make room"):
        run.write_state({"state": "STOPPED"})
    assert run.state() == {"state": "RUNNING"}
    run.release()
