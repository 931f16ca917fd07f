"""python -m python_services.edge"""

from python_services.kit.server import serve

from .service import DEFINITION

serve(DEFINITION)
