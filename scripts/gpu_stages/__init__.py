"""Stages of `check_gpu.py`, each run in a process of its own."""

import semanir_plugin  # noqa: F401  # first: it makes BasicSR importable
