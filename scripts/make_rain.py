"""Make pairs for deraining: `basicsr prepare rain`, in the environment of this repository."""

import sys

from bootstrap import run_in_venv

if __name__ == "__main__":
    run_in_venv()
    from semanir_plugin.cli import main

    sys.exit(main(["prepare", "rain", *sys.argv[1:]]))
