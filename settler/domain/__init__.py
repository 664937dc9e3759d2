"""The pure core: what is owed, what was paid, what follows. Values and functions of values.

What does not belong here: anything that waits, reads a clock, draws a random number, logs, or knows of a database
or a network.
"""
