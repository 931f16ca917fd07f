"""python -m python_services.fundamental_agent"""

from python_services.kit.server import serve

from .service import DEFINITION

serve(DEFINITION)
