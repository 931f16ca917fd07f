"""python -m python_services.market_data"""

from python_services.kit.server import serve

from .service import DEFINITION

serve(DEFINITION)
