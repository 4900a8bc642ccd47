"""Trainings of recipes, or of changed ones, on BSD400: their data, their course, and tables of what came of them."""
