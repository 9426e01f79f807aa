"""Run the command ``pixpro-d2`` as ``python -m pixpro_d2``."""

from .cli import main

if __name__ == "__main__":
    main()
