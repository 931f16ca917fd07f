"""``python -m python_services.feature_store``."""

from python_services.kit.server import serve

from .service import DEFINITION

if __name__ == "__main__":
    serve(DEFINITION)
