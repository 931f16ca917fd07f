"""An OpenAI-compatible endpoint, asked through its SDK.

What it says of errors is never repeated: it can quote the key.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import grpc

from python_services.kit import deadline
from python_services.kit.breaker import Breaker, BreakerOpenError
from python_services.kit.config import ConfigError
from python_services.kit.errors import ServiceError

from .config import Config
from .exchange import Answer, Question, Unanswered

# What is kept of the caller's time for what comes after the answer.
_RESERVE_S = 0.1


class Endpoint:
    """Asks once: trying again is a new decision's matter. Behind a breaker, within the caller's deadline."""

    def __init__(self, config: Config) -> None:
        try:
            import openai
        except ImportError:
            raise ConfigError("llm_agent needs the extra `llm`: pip install 'alphamesh[llm]'") from None
        key = os.environ.get(config.api_key_env, "") if config.api_key_env else "none"
        if not key:
            problem = f"the environment variable {config.api_key_env} is not set"
            raise ConfigError(f"llm_agent.api_key_env: {problem}; set it, or use mode replay")
        self._openai = openai
        self._client = openai.AsyncOpenAI(base_url=config.base_url, api_key=key, max_retries=0)
        self._timeout_s = config.timeout_s
        name = f"language model {config.model}"
        self._breaker = Breaker(name, failures=config.breaker_failures, reset_s=config.breaker_reset_s)

    async def ask(self, question: Question) -> Answer:
        """Raises Unanswered."""
        try:
            return await self._breaker.call(lambda: self._ask(question))
        except BreakerOpenError as error:
            raise Unanswered("BREAKER_OPEN", error.message) from None
        except ServiceError as error:
            raise Unanswered(error.reason, error.message) from None

    async def _ask(self, question: Question) -> Answer:
        openai = self._openai
        left_s = (deadline.bounded(self._timeout_s + _RESERVE_S) or 0.0) - _RESERVE_S
        if left_s <= 0.0:
            raise ServiceError(grpc.StatusCode.CANCELLED, "NO_TIME", "the caller's time was up before it was asked")
        try:
            async with asyncio.timeout(left_s):  # of the whole answer; the SDK's own bounds each read
                create = cast(Any, self._client.chat.completions.create)
                found = await create(**question.body(), timeout=left_s)
        except (TimeoutError, openai.APITimeoutError):
            # In the same words whatever was left: they become part of the decision.
            problem = f"no answer within {self._timeout_s:g} s, or before the caller's deadline"
            raise _away("TIMED_OUT", problem) from None
        except openai.APIConnectionError:
            raise _away("UNREACHABLE", "the endpoint could not be reached, or hung up") from None
        except openai.AuthenticationError:
            code = grpc.StatusCode.UNAUTHENTICATED
            raise ServiceError(code, "KEY_REFUSED", "the endpoint refused the key (HTTP 401)") from None
        except openai.RateLimitError:
            raise _away("RATE_LIMITED", "the endpoint takes no more for now (HTTP 429)") from None
        except openai.APIStatusError as error:
            raise _away("REFUSED", f"the endpoint answered with HTTP {error.status_code}") from None
        except (openai.APIError, ValueError) as error:
            raise _away("UNREADABLE", f"the endpoint's answer is no completion ({type(error).__name__})") from None
        return _answer(question, found)

    async def close(self) -> None:
        """Ends connections."""
        await self._client.close()


def _answer(question: Question, found: Any) -> Answer:
    """One that was cut off, declined or left empty is an answer, too: it has cost, and is refused when it is read."""
    choices, usage = getattr(found, "choices", None), getattr(found, "usage", None)
    content = (choices[0].message.content if choices and choices[0].message else None) or ""
    return Answer(
        content=content.encode("utf-8", "replace").decode(),  # JSON can smuggle in half a surrogate pair
        # An endpoint that does not count is charged by the estimate.
        input_tokens=usage.prompt_tokens if usage else question.estimated_tokens(),
        output_tokens=usage.completion_tokens if usage else len(content.encode(errors="replace")),
    )


def _away(reason: str, message: str) -> ServiceError:
    return ServiceError(grpc.StatusCode.UNAVAILABLE, reason, message)
