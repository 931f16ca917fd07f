"""The agents of this cluster, one module each."""

from collections.abc import Iterable

from python_services.kit.agents import Agent

from ..view import Fundamentals
from . import accruals, altman, dcf, growth, piotroski, quality, value


def agents(assumptions: dcf.Assumptions) -> Iterable[Agent[Fundamentals]]:
    """All of them; `assumptions` are those of the discounted cash flow."""
    fixed = (accruals.AGENT, altman.AGENT, growth.AGENT, piotroski.AGENT, quality.AGENT, value.AGENT)
    return (*fixed, dcf.agent(assumptions))
