"""Sidecars need one inotify instance for each file; a user that has too few left is told before anything starts."""

from __future__ import annotations

import pytest

from mesh import watches
from mesh.errors import MeshError


def bootstrap(*paths: str) -> dict[str, object]:
    return {"clusters": [{"eds_config": {"path_config_source": {"path": path}}} for path in paths]}


def test_a_file_is_watched_once_by_each_envoy() -> None:
    assert watches.watched(bootstrap("/a", "/b", "/a")) == {"/a", "/b"}
    assert watches.watched({"static": [1, "x", None]}) == set()


def test_what_the_kernel_gives_is_enough_or_the_remedy_is_named() -> None:
    watches.check([bootstrap("/a"), bootstrap("/a", "/b")])
    limit = int(watches._LIMIT.read_text())
    with pytest.raises(MeshError, match=r"sysctl fs\.inotify\.max_user_instances"):
        watches.check([bootstrap(*map(str, range(limit + 1)))])
    watches.check([bootstrap("/a")])  # nothing is left open
