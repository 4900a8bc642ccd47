"""Comparing results: leaderboards, costs, curves and pictures."""
