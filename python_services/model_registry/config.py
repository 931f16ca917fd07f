"""Configuration of the model registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DAY_NS = 86_400_000_000_000
BUNDLED = "bundled:"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """How a new version is tried, and what a version may do; see triggers.Limits and docs/rollout.md.

    minimum_requests     questions seen at each step before the next; also the smallest number of pairs for a champion
    error_bps            failed requests of each 10,000
    p99_ns               objective of the answering time; twice the champion's is allowed too
    alpha                chance of promoting a version that is not better, and of rolling back one that is not worse
    block_ns             outcomes within such a time of each other are one sample of the test: as long as the horizon
    drawdown             fall of the summed returns of a version's answers from their highest, a share
    bake_requests        questions that a new champion answers before the old one is unloaded
    realert_requests     questions before the same alert about the same version is raised again
    """

    minimum_requests: int = 250
    error_bps: int = 100
    p99_ns: int = 20_000_000
    alpha: float = 0.05
    block_ns: int = 5 * DAY_NS
    drawdown: float = 0.1
    bake_requests: int = 1_000
    realert_requests: int = 1_000

    def __post_init__(self) -> None:
        for name in ("minimum_requests", "p99_ns", "bake_requests", "realert_requests"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more")
        if not 0 <= self.error_bps <= 10_000:
            raise ValueError(f"error_bps is {self.error_bps}; use 0 to 10000")
        if not 0.0 < self.alpha < 0.5:
            raise ValueError(f"alpha is {self.alpha}; use a chance between 0 and 0.5, such as 0.05")
        if self.block_ns < 0:
            raise ValueError(f"block_ns is {self.block_ns}; use 0 for no blocks, or their length")
        if not self.drawdown > 0.0:
            raise ValueError(f"drawdown is {self.drawdown}; use a share above 0, such as 0.1")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where models come from and who serves them.

    bundled          models that are registered at the first start; "bundled:NAME" is a folder shipped with AlphaMesh,
                     "" none
    inbox            folder that `artifact.path` counts from; "" is `inbox` in the data directory
    serving          "triton", or "" while nothing serves models: then nobody validates by itself
    serving_wait_s   pause between two looks at what is loaded
    publishers       hex Ed25519 public keys whose `model.sig` beside an artifact is accepted
    mlflow           whether MLflow mirrors the registry
    mlflow_wait_s    quiet after a change before the mirror is written: changes come in groups, decisions go first
    """

    bundled: str = "bundled:triton_models"
    inbox: str = ""
    serving: str = ""
    serving_wait_s: float = 2.0
    publishers: tuple[str, ...] = ()
    mlflow: bool = True
    mlflow_wait_s: float = 20.0
    rollouts: Rollouts = field(default_factory=Rollouts)

    def __post_init__(self) -> None:
        if self.serving not in ("", "triton"):
            raise ValueError(f"serving is {self.serving!r}; use triton, or nothing")
        for key in self.publishers:
            if len(key) != 64 or any(digit not in "0123456789abcdef" for digit in key):
                raise ValueError(f"publishers has {key!r}; use the 64 hex digits of an Ed25519 public key")
        for name in ("serving_wait_s", "mlflow_wait_s"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more")

    @property
    def bundled_folder(self) -> Path | None:
        """The folder of shipped models; None when there is none."""
        if not self.bundled:
            return None
        name = self.bundled.removeprefix(BUNDLED)
        folder = ROOT / name if self.bundled.startswith(BUNDLED) else Path(name)
        return folder if folder.is_dir() else None
