"""The contracts of `contracts_abi` on a local chain: deployed, called and read by name, and what has to be signed.

    usdc = await deploy(node, "CircleLikeToken", "USD Coin", "USDC", 6)
    await usdc.send("mint", shop, 10**6)                      # sent; mined when the node mines
    assert await usdc.read("balanceOf", shop) == 10**6
    [mint, transfer] = usdc.events(await evm.wait_mined(node, tx_hash))

The node signs for its own accounts and, while it impersonates, for any address. Arguments are what `eth_abi` takes:
addresses as 20 bytes, structs as tuples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic, function_abi_to_4byte_selector
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from chains.model import Address, TxHash
from contracts_abi import artifact
from settler.anvil import Anvil
from tests.support import evm

GAS = 400_000
"""For any call here: given, since a call that stands on one not mined yet cannot be estimated. A block takes 75."""
DEPLOY_GAS = 4_000_000
ALWAYS_S = 2**40
"""`validBefore` of what never expires."""
TOKEN = ("USD Coin", "USDC", 6)
"""Name, symbol and decimals, as every token's constructor takes them."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One log, read by the ABI of its emitter."""

    name: str
    args: Mapping[str, Any]
    """Addresses as 20 bytes; of an indexed `bytes` or `string` its hash."""
    topics: int
    index: int
    """In its block."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A deployed contract. Functions are named as in its source; of two of one name the number of arguments decides."""

    node: Anvil
    name: str
    address: Address
    abi_of: str = ""
    """Whose ABI it has, where that is another contract's: a proxy's is that of the code behind it."""

    @property
    def abi(self) -> Sequence[Mapping[str, Any]]:
        return cast("Sequence[Mapping[str, Any]]", artifact(self.abi_of or self.name).abi)

    def call_data(self, function: str, *args: object) -> bytes:
        entry = self._function(function, args)
        return function_abi_to_4byte_selector(cast("Any", entry)) + encode(_types(entry["inputs"]), _plain(args))

    async def send(self, function: str, *args: object, by: Address | None = None, gas: int = GAS) -> TxHash:
        """A transaction, sent by the node's first account or by `by`; not waited for."""
        data = self.call_data(function, *args)
        return await send(self.node, self.address, data, by=by, gas=gas)

    async def act(self, function: str, *args: object, by: Address | None = None) -> dict[str, Any]:
        """The receipt of a transaction that succeeded, mined at once."""
        tx_hash = await self.send(function, *args, by=by)
        await evm.mine(self.node)
        return await evm.wait_mined(self.node, tx_hash)

    async def read(self, function: str, *args: object) -> Any:
        """What it answers: one value, or a tuple. Raises `AnvilCallError` where it reverts."""
        entry = self._function(function, args)
        call = {"to": _hex(self.address), "data": _hex(self.call_data(function, *args))}
        answer = bytes.fromhex((await self.node.rpc("eth_call", call, "latest"))[2:])
        values = tuple(map(_bytes_address, _types(entry["outputs"]), decode(_types(entry["outputs"]), answer)))
        return values[0] if len(values) == 1 else values

    def events(self, receipt: Mapping[str, Any]) -> list[Event]:
        """What this contract emitted in a transaction, in order; of a proxy what it and its code emitted."""
        known = {event_abi_to_log_topic(cast("Any", e)): e for name in {self.name, self.abi_of or self.name}
                 for e in cast("Sequence[Mapping[str, Any]]", artifact(name).abi) if e["type"] == "event"}  # fmt: skip
        logs = [log for log in receipt["logs"] if log["address"] == _hex(self.address)]
        return [_event(log, known[bytes.fromhex(log["topics"][0][2:])]) for log in logs]

    def _function(self, name: str, args: Sequence[object]) -> Mapping[str, Any]:
        (found,) = [
            entry
            for entry in self.abi
            if entry["type"] == "function" and entry["name"] == name and len(entry["inputs"]) == len(args)
        ]
        return found


async def deploy(node: Anvil, name: str, *args: object) -> Contract:
    """Mined, with these arguments of its constructor."""
    constructor = [e for e in cast("Any", artifact(name).abi) if e["type"] == "constructor"]
    types = _types(constructor[0]["inputs"]) if constructor else []
    tx_hash = await send(node, None, artifact(name).bytecode + encode(types, _plain(args)), gas=DEPLOY_GAS)
    await evm.mine(node)
    created = (await evm.wait_mined(node, tx_hash))["contractAddress"]
    return Contract(node=node, name=name, address=Address(bytes.fromhex(created[2:])))


async def deploy_behind(node: Anvil, proxy: str, implementation: Contract, *args: object) -> Contract:
    """A proxy, `UpgradeableProxy` or `CircleLikeProxy`, whose code is `implementation`'s, initialised with `args`."""
    made = await deploy(node, proxy, implementation.address, implementation.call_data("initialize", *args))
    return Contract(node=node, name=proxy, address=made.address, abi_of=implementation.name)


async def upgrade(node: Anvil, proxy: Contract, implementation: Contract) -> TxHash:
    return await Contract(node=node, name=proxy.name, address=proxy.address).send("upgradeTo", implementation.address)


async def send(node: Anvil, to: Address | None, data: bytes, *, by: Address | None = None, gas: int = GAS) -> TxHash:
    """One price for all, so that a block holds transactions in the order they were sent."""
    sender = by or evm.address_of(node.accounts[0])
    transaction = {"from": _hex(sender), "data": _hex(data), "gas": hex(gas), "gasPrice": hex(100 * 10**9)}
    if to is not None:
        transaction["to"] = _hex(to)
    return TxHash(bytes.fromhex((await node.rpc("eth_sendTransaction", transaction))[2:]))


async def impersonate(node: Anvil, *addresses: Address) -> None:
    """Lets the node sign for these addresses, and gives them ether for gas."""
    calls: list[tuple[str, Sequence[object]]] = []
    for address in addresses:
        calls += [("anvil_impersonateAccount", [_hex(address)]), ("anvil_setBalance", [_hex(address), hex(10**20)])]
    await node.batch(calls)


def account(name: str) -> LocalAccount:
    """A key made of a name; the same one every time."""
    made: LocalAccount = Account.from_key(keccak(text=f"settler test account {name}"))
    return made


# -- payments by signature: https://eips.ethereum.org/EIPS/eip-3009 ----------------------------------------------------

_FIELDS = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """What a payer signs: this amount to that address, once, under a nonce of the payer's own choice."""

    payer: LocalAccount
    to: Address
    value: int
    nonce: bytes
    valid_after: int = 0
    valid_before: int = ALWAYS_S
    kind: str = "TransferWithAuthorization"
    """Or `ReceiveWithAuthorization`, which the payee alone may send in."""

    @property
    def fields(self) -> tuple[object, ...]:
        payer = evm.address_of(self.payer)
        return (payer, self.to, self.value, self.valid_after, self.valid_before, self.nonce)

    def signature(self, token: Contract) -> tuple[int, bytes, bytes]:
        """`v, r, s` for a CircleLikeToken named "USD Coin"."""
        names = [f["name"] for f in _FIELDS]
        message = dict(zip(names, self.fields, strict=True))
        return _signed_typed(self.payer, token, {self.kind: _FIELDS}, message)

    def arguments(self, token: Contract) -> tuple[object, ...]:
        """Of the function that takes it."""
        return (*self.fields, *self.signature(token))

    def in_batch(self, token: Contract) -> tuple[object, ...]:
        """Its entry in a PaxosLikeToken's batch."""
        return (self.fields, *self.signature(token))


def cancellation(payer: LocalAccount, nonce: bytes, token: Contract) -> tuple[object, ...]:
    """Arguments of `cancelAuthorization`."""
    types = {"CancelAuthorization": [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}]}
    authorizer = evm.address_of(payer)
    return (authorizer, nonce, *_signed_typed(payer, token, types, {"authorizer": authorizer, "nonce": nonce}))


def _signed_typed(
    signer: LocalAccount, token: Contract, types: Mapping[str, Any], message: Mapping[str, object]
) -> tuple[int, bytes, bytes]:
    domain = {
        "name": TOKEN[0],
        "version": "2",
        "chainId": token.node.chain_id,
        "verifyingContract": _hex(token.address),
    }
    return _vrs(signer.sign_typed_data(domain, dict(types), dict(message)))


# -- accounts that are contracts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wallet:
    """A SmartAccount and the key that signs for it."""

    account: Contract
    owner: LocalAccount

    @property
    def address(self) -> Address:
        return self.account.address

    async def signed(self, to: Contract, function: str, *args: object) -> tuple[object, ...]:
        """Arguments of `execTransaction`: the call, signed for the account's present nonce."""
        data = to.call_data(function, *args)
        hash_ = await self.account.read("hashOf", to.address, data)
        return (to.address, data, *_vrs(self.owner.unsafe_sign_hash(hash_)))

    async def operation(self, to: Contract, function: str, *args: object) -> tuple[object, ...]:
        """Its entry in `handleOps` of a BundlerEntry."""
        return (self.account.address, *await self.signed(to, function, *args))


async def deploy_wallet(node: Anvil, owner: LocalAccount, entry: Contract | None = None) -> Wallet:
    trusted = bytes(20) if entry is None else entry.address
    made = await deploy(node, "SmartAccount", evm.address_of(owner), trusted)
    return Wallet(account=made, owner=owner)


# -- escrow ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EscrowPayment:
    """The terms of a payment through a CommerceEscrow."""

    operator: Address
    payer: Address
    receiver: Address
    token: Address
    max_amount: int
    fee_receiver: Address
    salt: int = 1
    authorization_expiry: int = 2**47
    max_fee_bps: int = 1_000

    @property
    def info(self) -> tuple[object, ...]:
        """The contract's `PaymentInfo`."""
        parties = (self.operator, self.payer, self.receiver, self.token)
        times = (2**47, self.authorization_expiry, 2**47)
        return (*parties, self.max_amount, *times, 0, self.max_fee_bps, self.fee_receiver, self.salt)

    def hash(self, escrow: Contract) -> bytes:
        """The `paymentInfoHash` of its events, computed as a merchant would, ahead of the payment."""
        typehash = keccak(
            text="PaymentInfo(address operator,address payer,address receiver,address token,uint120 maxAmount,"
            "uint48 preApprovalExpiry,uint48 authorizationExpiry,uint48 refundExpiry,uint16 minFeeBps,uint16 maxFeeBps,"
            "address feeReceiver,uint256 salt)"
        )
        struct = "(address,address,address,address,uint120,uint48,uint48,uint48,uint16,uint16,address,uint256)"
        inner = keccak(encode(["bytes32", struct], [typehash, self.info]))
        return keccak(encode(["uint256", "address", "bytes32"], [escrow.node.chain_id, escrow.address, inner]))


# -- between Python and the ABI ----------------------------------------------------------------------------------------


def _types(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [collapse_if_tuple(cast("dict[str, Any]", each)) for each in inputs]


def _plain(args: Sequence[object]) -> list[object]:
    return [arg.address if isinstance(arg, Contract) else arg for arg in args]


def _event(log: Mapping[str, Any], entry: Mapping[str, Any]) -> Event:
    """Raises `AssertionError` where the log has not the topics its ABI says."""
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    indexed = [each for each in entry["inputs"] if each["indexed"]]
    plain = [each for each in entry["inputs"] if not each["indexed"]]
    assert len(topics) == 1 + len(indexed), f"{entry['name']} with {len(topics)} topics"
    args: dict[str, Any] = {}
    for each, topic in zip(indexed, topics[1:], strict=True):
        is_hashed = each["type"] in ("bytes", "string")
        args[each["name"]] = topic if is_hashed else _bytes_address(each["type"], decode([each["type"]], topic)[0])
    values = decode(_types(plain), bytes.fromhex(log["data"][2:]))
    for each, value in zip(plain, values, strict=True):
        args[each["name"]] = _bytes_address(each["type"], value)
    return Event(name=entry["name"], args=args, topics=len(topics), index=int(log["logIndex"], 16))


def _bytes_address(type_: str, value: Any) -> Any:
    """eth_abi answers addresses as text."""
    if type_ == "address":
        return Address(to_canonical_address(value))
    if type_ == "address[]":
        return [Address(to_canonical_address(each)) for each in value]
    return value


def _vrs(signed: Any) -> tuple[int, bytes, bytes]:
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
