"""Comparing results: pictures, and later protocols and leaderboards."""
