from python_services.kit.server import serve

from .service import DEFINITION

serve(DEFINITION)
