"""Helpers of several ops: dispatch and launch of kernels, layouts of tensors, forms of a bias."""
