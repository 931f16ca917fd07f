"""``python -m tests.services.language_model``: prints its port, then serves until it is ended."""

from .server import main

if __name__ == "__main__":
    main()
