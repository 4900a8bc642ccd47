"""BasicSR as a host of this package: repairs, registrations, and the train and test pipelines.

Nothing outside this folder, `evaluation` and `cli` needs BasicSR.
"""
