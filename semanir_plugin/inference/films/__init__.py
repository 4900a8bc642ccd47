"""Films, restored picture by picture: read and written by PyAV, gone on with where they stopped."""
