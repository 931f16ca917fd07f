"""A confined process, for real: what it may write, and what it may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from pathlib import Path
from python_services.training.confinement import confine
inside, outside = map(Path, sys.argv[1:])
if not confine(inside, Path("/dev/null")):
    sys.exit(3)
(inside / "new").mkdir()
(inside / "new" / "file").write_text("mine")
Path("/dev/null").write_text("gone")
print(outside.joinpath("there").read_text())
for attempt in (lambda: (outside / "new").write_text("x"), lambda: (outside / "there").write_text("x"),
                lambda: (outside / "there").unlink(), lambda: (outside / "folder").mkdir()):
    try:
        attempt()
    except PermissionError:
        print("refused")
"""


def test_a_confined_process_writes_in_its_folder_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "there").write_text("readable")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(inside), str(outside)], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip("this kernel has no Landlock")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["readable", *["refused"] * 4]
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert (outside / "there").read_text() == "readable"
