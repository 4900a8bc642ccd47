"""Comparing results: protocols, leaderboards and pictures."""
