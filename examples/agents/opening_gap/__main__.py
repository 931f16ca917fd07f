"""python -m examples.agents.opening_gap"""

from python_services.kit.server import serve

from .service import DEFINITION

serve(DEFINITION)
