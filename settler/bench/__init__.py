"""`settler bench`: what settler costs, measured on this machine, with inputs that are the same at every run.

Figures are ratios of things measured in one run (calls a block, calls a poll); seconds of this machine say little about
another. What does not belong here: tests. Nothing fails because it is slow.
"""
