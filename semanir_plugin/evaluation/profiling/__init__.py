"""What each part of a network costs, and what its attention costs by each backend."""
