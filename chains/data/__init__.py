"""The files of `chains.registry`, and refusals in providers' words (`chains.classify`, `chains.faults`)."""
