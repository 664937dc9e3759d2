"""One file a revision, `<revision>_<what>.py`."""
