"""``python -m python_services.audit``."""

import os

from python_services.kit.server import serve

from .service import DEFINITION

if __name__ == "__main__":
    os.nice(10)  # nobody waits for it: when processors are short, decisions come first
    serve(DEFINITION)
