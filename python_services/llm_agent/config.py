"""Configuration of the language model's analyst."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

LIVE, RECORD, REPLAY = MODES = ("live", "record", "replay")
_THIS_HOST = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which model is asked, how, and for how much.

    base_url: of an OpenAI-compatible endpoint. api_key_env: the environment variable that holds the key; empty: none is
    needed. mode: live asks; record asks what `cassette`, a file, does not answer yet, and adds it; replay asks nobody.
    debate_rounds: 0 for one analyst, else so many exchanges of a bull and a bear before a judge.
    sampling: false for models that refuse to be told a temperature (0) and a seed.
    timeout_s: of one call; never longer than the caller waits. Prices in nano units of the currency for a token (2.50
    for a million tokens is 2500); budgets of tokens, and of money in nano units, 0 for none of money. A session is what
    its decisions' ids begin with.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    mode: str = LIVE
    cassette: str = ""
    debate_rounds: int = 0
    maximum_instruments: int = 50
    timeout_s: float = 20.0
    maximum_answer_tokens: int = 4000
    sampling: bool = True
    seed: int = 7
    input_price_e9: int = 0
    output_price_e9: int = 0
    decision_tokens: int = 40_000
    session_tokens: int = 4_000_000
    decision_cost_e9: int = 0
    session_cost_e9: int = 0
    breaker_failures: int = 3
    breaker_reset_s: float = 30.0

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"base_url is {self.base_url!r}; give http(s)://HOST/PATH of the endpoint")
        if url.scheme == "http" and url.hostname not in _THIS_HOST:
            raise ValueError(f"base_url is {self.base_url!r}; the key would cross the network in clear, use https")
        if url.username or url.password or url.query:
            raise ValueError("base_url holds credentials or a query; the key belongs into the variable of api_key_env")
        if not self.model:
            raise ValueError("model is empty; name the one that the endpoint is to use")
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; use {', '.join(MODES)}")
        if (self.mode == LIVE) != (not self.cassette):
            problem = f"mode is {self.mode} and cassette {self.cassette!r}"
            raise ValueError(f"{problem}; record and replay need one, live takes none")
        if not 0 <= self.debate_rounds <= 5:
            raise ValueError(f"debate_rounds is {self.debate_rounds}; use 0 to 5")
        for name in ("maximum_instruments", "maximum_answer_tokens", "decision_tokens", "session_tokens", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give more than 0")
        for name in ("input_price_e9", "output_price_e9", "decision_cost_e9", "session_cost_e9"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        if (self.decision_cost_e9 or self.session_cost_e9) and not (self.input_price_e9 and self.output_price_e9):
            raise ValueError("a budget of money needs input_price_e9 and output_price_e9; give both")

    @property
    def agent_id(self) -> str:
        """One agent, whichever way it comes to its views."""
        return "llm.debate" if self.debate_rounds else "llm.analyst"
