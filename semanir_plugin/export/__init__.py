"""Networks as files that other programs run: in standard operators, for images of any size, checked against PyTorch."""
