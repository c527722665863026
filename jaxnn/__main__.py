"""`python -m jaxnn`: the command `jaxnn`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
