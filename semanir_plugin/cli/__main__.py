"""`python -m semanir_plugin.cli`, for torchrun."""

import sys

from semanir_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main())
