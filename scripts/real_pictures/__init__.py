"""Pictures as people have them, made of clean ones: what is drawn, what is done to it, and what a network makes of it.

Nothing here is trained on. `real_inputs.py` is the command.
"""
