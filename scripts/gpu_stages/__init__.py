"""What `check_gpu.py` runs on a GPU, stage by stage, each in a process of its own."""

import semanir_plugin  # noqa: F401  # first: it makes BasicSR importable
