"""Schema of option files: options declared once, as typed signatures, and what is made of them.

A section of an option file is declared by a keyword-only dataclass next to what reads it, a network or a loss by its
constructor: names, types with their ranges, defaults, and a sentence in the docstring. Checks, defaults, messages,
listings, the reference page and the JSON schema are made of that.
"""
