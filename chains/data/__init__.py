"""The files of `chains.registry`: data, no code."""
