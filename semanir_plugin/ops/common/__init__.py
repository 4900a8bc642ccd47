"""What several ops share: how kernels are dispatched and launched, layouts of tensors, forms of a bias."""
