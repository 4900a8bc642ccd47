"""Files that are changed at random, one part or another, and what commands make of them: see mutation_test.py.

`trees`, `bytestrings`, `containers`, `image_formats`, `pickles` and `option_changes` change what `samples` has.
`targets` has the kinds of files, each with the commands that read it; `commands` runs one and judges what it did, and
`pool` has processes do so, which may die.
"""
