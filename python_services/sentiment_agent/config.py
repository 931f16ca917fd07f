"""Configuration of the sentiment agents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUNDLED = "bundled:"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Source:
    """How much a text counts by who published it: 0 (not at all) to 1."""

    name: str
    credibility: float

    def __post_init__(self) -> None:
        _check(f"credibility of {self.name}", self.credibility)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which agents run (empty: all), what scores a text, and how much each source counts.

    The model's version is named here and nowhere else: it changes with the configuration, and never under a session.
    `models`: the folder that holds its tokenizer and its card; "bundled:NAME" is one shipped with AlphaMesh.
    `other_credibility`: that of sources that are not listed. `scoring_s`: how long a forecast waits for scores of
    texts that are new, less when its caller waits less. `inference_s`: patience with one question. A model server that
    failed `breaker_failures` times in a row is not asked for `breaker_reset_s`.
    """

    agents: tuple[str, ...] = ()
    model_id: str = "headline_sentiment"
    model_version: int = 1
    models: str = f"{BUNDLED}triton_models"
    sources: tuple[Source, ...] = ()
    other_credibility: float = 0.5
    scoring_s: float = 1.2
    inference_s: float = 1.0
    breaker_failures: int = 3
    breaker_reset_s: float = 1.0

    def __post_init__(self) -> None:
        if self.model_version < 1:
            raise ValueError(f"model_version is {self.model_version}; name the version to ask, 1 or more")
        _check("other_credibility", self.other_credibility)
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"sources lists {name} twice; give it one credibility")

    def credibility(self) -> dict[str, float]:
        """By source; those that are not in it have `other_credibility`."""
        return {source.name: source.credibility for source in self.sources}

    def version_folder(self) -> Path:
        """Where the model's tokenizer and card lie."""
        name = self.models.removeprefix(BUNDLED)
        folder = ROOT / name if self.models.startswith(BUNDLED) else Path(name)
        return folder / self.model_id / str(self.model_version)


def _check(name: str, credibility: float) -> None:
    if not 0.0 <= credibility <= 1.0:
        raise ValueError(f"{name} is {credibility:g}; give 0 to 1")
