"""Restoring images with trained networks: checkpoints, shipped weights, image files, tiles, self-ensemble."""
