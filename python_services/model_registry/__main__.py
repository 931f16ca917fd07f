"""``python -m python_services.model_registry``."""

from python_services.kit.server import serve

from .service import DEFINITION

if __name__ == "__main__":
    serve(DEFINITION)
