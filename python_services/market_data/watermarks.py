"""What is sealed: no version may claim to have been known at a moment that was already told about. Pure.

Each stream has a watermark, up to which its source has sent everything. Nothing at all comes in up to `sealed_ns`: the
least of the watermarks, or the latest cut, because a snapshot must come out the same whenever it is cut again. It
never goes back, so a new stream begins there.
"""

from __future__ import annotations


class Watermarks:
    """Watermarks by stream."""

    def __init__(self) -> None:
        self._streams: dict[str, int] = {}
        self.sealed_ns = 0

    def of(self, stream: str) -> int:
        """Versions of this stream must have become known after this moment."""
        return max(self._streams.get(stream, 0), self.sealed_ns)

    def seal(self, as_of_ns: int) -> None:
        """A snapshot as of this moment is cut."""
        self.sealed_ns = max(self.sealed_ns, as_of_ns)

    def advance(self, stream: str, to_ns: int) -> None:
        """The source has sent everything up to `to_ns`, 0 for no statement. A step back has no effect."""
        self._streams[stream] = max(self.of(stream), to_ns)
        self.sealed_ns = max(self.sealed_ns, min(self.of(name) for name in self._streams))
