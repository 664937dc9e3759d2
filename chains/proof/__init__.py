"""Proof that a payment's log is in the block with the hash the quorum agreed on. Pure: no reading, no clock.

    profile = profile_of(chain_id)                                      Unprovable: unknown chain, or one without a trie
    proven = prove_block(block, receipts, block_hash=…, profile=…)      NodeInconsistent, Unprovable; once a block
    proof = proven.prove(transfer)                                      ProofFailed; once a payment
    to_json(proof) … from_json(stored)                                  beside the settlement
    verify(proof, transfer)                                             ProofFailed; offline, at any later time

The node's answers are only ever a guess at the preimage of the block's hash: header fields, receipt types, forks and
the chain's family are data (`chains/data/proof.toml`), and whatever they say, a wrong guess does not hash to the right
value. So a mistake there delays a settlement and never makes a false one. `chains.proof.evidence` lists what a proof
shows and what it does not.

What does not belong here: asking nodes, choosing among providers, and what to do about a payment without a proof.
"""

from chains.proof.block import ProvenBlock, prove_block, receipts_root
from chains.proof.errors import ProofFailed, Unprovable
from chains.proof.evidence import ReceiptProof, from_json, to_json, verify
from chains.proof.header import encode_header
from chains.proof.profile import Profile, Status, known_chains, profile_of
from chains.proof.wire import BLOCK, RECEIPTS, WireBlock, WireReceipt, WireReceiptLog

__all__ = [
    "BLOCK",
    "RECEIPTS",
    "Profile",
    "ProofFailed",
    "ProvenBlock",
    "ReceiptProof",
    "Status",
    "Unprovable",
    "WireBlock",
    "WireReceipt",
    "WireReceiptLog",
    "encode_header",
    "from_json",
    "known_chains",
    "profile_of",
    "prove_block",
    "receipts_root",
    "to_json",
    "verify",
]
