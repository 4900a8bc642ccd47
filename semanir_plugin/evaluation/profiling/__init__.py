"""Profiling: the cost of each part of a network, and of its attention by each backend."""
