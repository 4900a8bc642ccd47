"""Make pairs for super-resolution: `basicsr prepare sr`, in the environment of this repository."""

import sys

from bootstrap import run_in_venv

if __name__ == "__main__":
    run_in_venv()
    from semanir_plugin.cli import main

    sys.exit(main(["prepare", "sr", *sys.argv[1:]]))
