"""Reading data: what BasicSR's datasets and samplers lack for exact and repeatable training."""
