"""Train one recipe to weights that can be shipped: `experiment.py weights`."""

import sys

from experiment import main

if __name__ == "__main__":
    sys.exit(main(["weights", *sys.argv[1:]]))
