"""Configuration of the market data service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUNDLED_PREFIX = "bundled:"
BUNDLED_FOLDER = Path(__file__).resolve().parent / "bundled"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which data to load, and how much to keep.

    A path that begins with `bundled:` is one of the files shipped with the service. `snapshots_retained`: so many of
    the last snapshots can be fetched, older ones have expired. `ingested_bars_limit`: versions of bars that may come
    in; each takes about half a kilobyte of memory. `ingested_texts_limit`: texts that may come in. `facts`: what
    companies filed; without it there are none.
    """

    datasets: tuple[str, ...]
    instruments: str
    snapshots_retained: int = 100_000
    ingested_bars_limit: int = 1_000_000
    ingested_texts_limit: int = 100_000
    facts: str | None = None

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty; name at least one CSV or Parquet file of bars")
        if self.snapshots_retained < 1:
            raise ValueError(f"snapshots_retained is {self.snapshots_retained}; keep at least 1")
        if self.ingested_bars_limit < 0:
            raise ValueError(f"ingested_bars_limit is {self.ingested_bars_limit}; give 0 or more")
        if self.ingested_texts_limit < 0:
            raise ValueError(f"ingested_texts_limit is {self.ingested_texts_limit}; give 0 or more")

    def dataset_paths(self) -> tuple[Path, ...]:
        """Files of bars, in the order given."""
        return tuple(resolve(name) for name in self.datasets)

    def instruments_path(self) -> Path:
        """The file that describes the instruments."""
        return resolve(self.instruments)

    def facts_path(self) -> Path | None:
        """The file of company facts, if there is one."""
        return None if self.facts is None else resolve(self.facts)


def resolve(name: str) -> Path:
    """A bundled file, or any other path; a relative one counts from the working directory."""
    if name.startswith(BUNDLED_PREFIX):
        return BUNDLED_FOLDER / name.removeprefix(BUNDLED_PREFIX)
    return Path(name)
