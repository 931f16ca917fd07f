"""python -m examples.agents.turn_of_month"""

from python_services.kit.server import serve

from .service import DEFINITION

serve(DEFINITION)
