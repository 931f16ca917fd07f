"""The definition that the tests' topology names; `serving` is the model server of the test that runs now."""

from __future__ import annotations

from python_services.kit.context import Context, ServiceDefinition
from python_services.model_registry.config import Config
from python_services.model_registry.service import build as build_registry

from .serving import OnnxServing

serving = OnnxServing()


async def build(context: Context[Config]) -> None:
    """The registry, unchanged."""
    await build_registry(context, serving)


DEFINITION = ServiceDefinition(name="model_registry", version="0.1.0", config=Config, build=build)
