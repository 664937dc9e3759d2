"""Simulated blocks, logs, receipts and transactions as nodes write them in JSON: lower-case hex, quantities without
leading zeros. Pure; every dict handed out is new, with its lists, so that a fault may alter it.
"""

from __future__ import annotations

from typing import NamedTuple

from chains.labels import RawLog
from chains.simulated_blocks import Content, SimReceipt
from chains.simulated_chain import SimulatedChain
from chains.simulated_headers import EMPTY, bloom_of, header_json
from chains.simulated_txs import SimTx

_NOBODY = "0x" + "00" * 20
_GAS_PRICE = "0x7"
_TYPE = "0x2"


class WrittenLog(NamedTuple):
    fields: dict[str, object]
    """All but its topics."""
    address: str
    topics: tuple[str, ...]

    def copied(self) -> dict[str, object]:
        made = self.fields.copy()
        made["topics"] = list(self.topics)
        return made


class Written(NamedTuple):
    """What is the same in every answer about a block."""

    tx_hashes: tuple[str, ...]
    logs: tuple[tuple[WrittenLog, ...], ...]
    """By transaction."""


def written(chain: SimulatedChain, content: Content) -> Written:
    """Written once for all nodes of the chain, and kept with the block."""
    found = content.rendered
    if not isinstance(found, Written):
        found = content.rendered = _written(chain, content)
    return found


def block_json(chain: SimulatedChain, number: int, *, is_full: bool = False) -> dict[str, object]:
    """`eth_getBlockByNumber` of a canonical block; `is_full`: with whole transactions."""
    content = chain.content_at(number)
    parent = chain.hash_at(number - 1) if number else bytes(32)
    block_hash = chain.hash_at(number)
    extra, time_s = chain.extra_at(number), chain.time_s_at(number)
    if content is None:
        header = header_json(number, block_hash, parent, time_s, extra, EMPTY)
        header["transactions"] = []
        return header
    header = header_json(number, block_hash, parent, time_s, extra, content.roots)
    header["transactions"] = (
        [transaction_json(chain, content, index) for index in range(len(content.receipts))]
        if is_full
        else list(written(chain, content).tx_hashes)
    )
    return header


def receipt_json(chain: SimulatedChain, content: Content, index: int) -> dict[str, object]:
    """`eth_getTransactionReceipt` of the block's transaction `index`."""
    receipt, block = content.receipts[index], written(chain, content)
    return {
        "type": _TYPE,
        "status": "0x0" if receipt.tx.has_failed else "0x1",
        "transactionHash": block.tx_hashes[index],
        "transactionIndex": hex(index),
        "blockHash": "0x" + chain.hash_at(content.number).hex(),
        "blockNumber": hex(content.number),
        "from": _sender(receipt.tx),
        "to": _called(receipt),
        "contractAddress": None,
        "cumulativeGasUsed": hex(receipt.cumulative_gas),
        "gasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": _GAS_PRICE,
        "logsBloom": "0x" + bloom_of(receipt.logs).hex(),
        "logs": [log.copied() for log in block.logs[index]],
    }


def transaction_json(chain: SimulatedChain, content: Content, index: int) -> dict[str, object]:
    """`eth_getTransactionByHash`. Without a signature: nobody signed it."""
    receipt = content.receipts[index]
    return {
        "type": _TYPE,
        "chainId": hex(chain.id),
        "hash": "0x" + receipt.tx.hash.hex(),
        "nonce": hex(receipt.tx.nonce or 0),
        "blockHash": "0x" + chain.hash_at(content.number).hex(),
        "blockNumber": hex(content.number),
        "transactionIndex": hex(index),
        "from": _sender(receipt.tx),
        "to": _called(receipt),
        "value": "0x0",
        "gas": hex(receipt.gas_used),
        "gasPrice": _GAS_PRICE,
        "maxFeePerGas": _GAS_PRICE,
        "maxPriorityFeePerGas": "0x0",
        "accessList": [],
        "input": "0x",
    }


def _written(chain: SimulatedChain, content: Content) -> Written:
    of_block: dict[str, object] = {
        "blockHash": "0x" + chain.hash_at(content.number).hex(),
        "blockNumber": hex(content.number),
        "blockTimestamp": hex(chain.time_s_at(content.number)),
        "removed": False,
    }
    hashes = tuple(["0x" + receipt.tx.hash.hex() for receipt in content.receipts])
    logs: list[tuple[WrittenLog, ...]] = []
    for index, (receipt, first) in enumerate(zip(content.receipts, content.log_indices(), strict=True)):
        of_tx = {**of_block, "transactionHash": hashes[index], "transactionIndex": hex(index)}
        logs.append(tuple([_log(log, of_tx, first + at) for at, log in enumerate(receipt.logs)]))
    return Written(hashes, tuple(logs))


def _log(log: RawLog, of_tx: dict[str, object], log_index: int) -> WrittenLog:
    address = "0x" + log.address.hex()
    fields = {"address": address, "topics": None, "data": "0x" + log.data.hex(), **of_tx, "logIndex": hex(log_index)}
    return WrittenLog(fields, address, tuple(["0x" + topic.hex() for topic in log.topics]))


def _sender(tx: SimTx) -> str:
    return _NOBODY if tx.sender is None else "0x" + tx.sender.hex()


def _called(receipt: SimReceipt) -> str:
    """The contract that wrote the last log stands for the one that was called."""
    if receipt.logs:
        return "0x" + receipt.logs[-1].address.hex()
    return "0x" + receipt.tx.transfers[0].token.hex() if receipt.tx.transfers else _NOBODY
