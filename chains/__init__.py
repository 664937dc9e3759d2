"""Reading EVM chains: blocks and token transfers, checked. Usable without settler.

What a caller may rely on:

- an answer is whole or it is an exception: a short, foreign, mis-numbered or contradicting reply is never a result;
- headers and the logs up to them are asked of one provider in one batch, so that a node which lacks the block shows it;
- an empty list of logs is only believed beside the header of the last block asked for;
- every transfer stands in a block whose header, with that hash, the same provider served in the same reading;
- headers of neighbouring heights in one answer are linked, hash to parent hash;
- every call is bounded: seconds, bytes, requests in flight, attempts; retries happen in one place, `chains.rpc`;
- the name of a provider is the host of its URL; the rest of the URL (it may hold a key) is in no message and no repr;
- what a chain is (ids, tokens, decimals, finality) is data with its sources, in `chains/data`.

What does not belong here: payments, invoices, cursors, policies of settlement, databases, logging. This package raises
(`chains.errors`) and reports calls to a `CallObserver`; what to do about either is the caller's business.
"""
