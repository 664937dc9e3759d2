"""What goes wrong with a proof. A node that contradicts itself is `chains.errors.NodeInconsistent`, as everywhere."""

from __future__ import annotations

from chains.errors import ChainError


class Unprovable(ChainError):
    """This program does not know how the chain hashes what it was given: an unknown chain, header field or receipt
    type. Says nothing against the payment; asking again does not help. Nothing of the block settles until an operator
    updates the program or `chains/data/proof.toml`, or reads the chain without proofs. Caught by the settle stage.
    """

    label = "unprovable"


class ProofFailed(ChainError):
    """The evidence does not show the transfer: it is incomplete, altered, or proves something else. The payment is
    held (`proof_failed`), never settled. Caught by the settle stage and by whoever re-checks stored evidence.
    """

    label = "proof_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
