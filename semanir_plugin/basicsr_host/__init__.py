"""BasicSR as a host of this package: its repairs, what this package registers in it, and the train and test pipelines.

Nothing outside this folder, `evaluation` and `cli` needs BasicSR.
"""
