"""Addresses from an extended public key: as BIP-32 has it, as a wallet with the private key has it, and never from one.

The vectors are those of https://github.com/bitcoin/bips/blob/master/bip-0032.mediawiki, "Test Vectors".
"""

from __future__ import annotations

import hashlib
import hmac

import pytest
from eth_account import Account
from eth_account.hdaccount import seed_from_mnemonic
from eth_account.hdaccount.deterministic import HDPath, derive_child_key
from eth_keys.datatypes import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from settler.domain import derivation
from settler.domain.derivation import INDEX_END, check_xpub, read_key, read_path
from tests.support.wallet import ANVIL_ADDRESSES, OTHER_XPUB, SEED_WORDS, XPRV, XPUB

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Account.enable_unaudited_hdwallet_features()

# Each a key, a step, and where it leads.
PUBLIC_STEPS = [
    (
        # vector 1: m/0' to m/0'/1
        "xpub68Gmy5EdvgibQVfPdqkBBCHxA5htiqg55crXYuXoQRKfDBFA1WEjWgP6LHhwBZeNK1VTsfTFUHCdrfp1bgwQ9xv5ski8PX9rL2dZXvgGDnw",
        1,
        "xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527Hqck2AxYysAA7xmALppuCkwQ",
    ),
    (
        # vector 1: m/0'/1/2' to m/0'/1/2'/2
        "xpub6D4BDPcP2GT577Vvch3R8wDkScZWzQzMMUm3PWbmWvVJrZwQY4VUNgqFJPMM3No2dFDFGTsxxpG5uJh7n7epu4trkrX7x7DogT5Uv6fcLW5",
        2,
        "xpub6FHa3pjLCk84BayeJxFW2SP4XRrFd1JYnxeLeU8EqN3vDfZmbqBqaGJAyiLjTAwm6ZLRQUMv1ZACTj37sR62cfN7fe5JnJ7dh8zL4fiyLHV",
    ),
    (
        # vector 1: m/0'/1/2'/2 to m/0'/1/2'/2/1000000000
        "xpub6FHa3pjLCk84BayeJxFW2SP4XRrFd1JYnxeLeU8EqN3vDfZmbqBqaGJAyiLjTAwm6ZLRQUMv1ZACTj37sR62cfN7fe5JnJ7dh8zL4fiyLHV",
        1_000_000_000,
        "xpub6H1LXWLaKsWFhvm6RVpEL9P4KfRZSW7abD2ttkWP3SSQvnyA8FSVqNTEcYFgJS2UaFcxupHiYkro49S8yGasTvXEYBVPamhGW6cFJodrTHy",
    ),
    (
        # vector 2: m to m/0
        "xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BDzTJY47LJhkJ8UB7WEGuduB",
        0,
        "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH",
    ),
]
# Vector 5: each is to be refused, and why.
NO_KEYS = {
    "pubkey version, prvkey": (
        "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6LBpB85b3D2yc8sfvZU521AAwdZafEz7mnzBBsz4wKY5fTtTQBm",
        "private key",
    ),
    "prvkey version, pubkey": (
        "xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFGTQQD3dC4H2D5GBj7vWvSQaaBv5cxi9gafk7NF3pnBju6dwKvH",
        "private key",
    ),
    "pubkey prefix 04": (
        "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Txnt3siSujt9RCVYsx4qHZGc62TG4McvMGcAUjeuwZdduYEvFn",
        "is no valid extended",
    ),
    "prvkey prefix 04": (
        "xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFGpWnsj83BHtEy5Zt8CcDr1UiRXuWCmTQLxEK9vbz5gPstX92JQ",
        "private key",
    ),
    "pubkey prefix 01": (
        "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6N8ZMMXctdiCjxTNq964yKkwrkBJJwpzZS4HS2fxvyYUA4q2Xe4",
        "is no valid extended",
    ),
    "prvkey prefix 01": (
        "xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFAzHGBP2UuGCqWLTAPLcMtD9y5gkZ6Eq3Rjuahrv17fEQ3Qen6J",
        "private key",
    ),
    "depth 0 with a parent (private)": (
        "xprv9s2SPatNQ9Vc6GTbVMFPFo7jsaZySyzk7L8n2uqKXJen3KUmvQNTuLh3fhZMBoG3G4ZW1N2kZuHEPY53qmbZzCHshoQnNf4GvELZfqTUrcv",
        "private key",
    ),
    "depth 0 with a parent": (
        "xpub661no6RGEX3uJkY4bNnPcw4URcQTrSibUZ4NqJEw5eBkv7ovTwgiT91XX27VbEXGENhYRCf7hyEbWrR3FewATdCEebj6znwMfQkhRYHRLpJ",
        "is no valid extended",
    ),
    "depth 0 with an index (private)": (
        "xprv9s21ZrQH4r4TsiLvyLXqM9P7k1K3EYhA1kkD6xuquB5i39AU8KF42acDyL3qsDbU9NmZn6MsGSUYZEsuoePmjzsB3eFKSUEh3Gu1N3cqVUN",
        "private key",
    ),
    "depth 0 with an index": (
        "xpub661MyMwAuDcm6CRQ5N4qiHKrJ39Xe1R1NyfouMKTTWcguwVcfrZJaNvhpebzGerh7gucBvzEQWRugZDuDXjNDRmXzSZe4c7mnTK97pTvGS8",
        "is no valid extended",
    ),
    "unknown version (private)": (
        "DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHGMQzT7ayAmfo4z3gY5KfbrZWZ6St24UVf2Qgo6oujFktLHdHY4",
        "private key",
    ),
    "unknown version": (
        "DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHPmHJiEDXkTiJTVV9rHEBUem2mwVbbNfvT2MTcAqj3nesx8uBf9",
        "another kind",
    ),
    "private key 0": (
        "xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzF93Y5wvzdUayhgkkFoicQZcP3y52uPPxFnfoLZB21Teqt1VvEHx",
        "private key",
    ),
    "private key n": (
        "xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFAzHGBP2UuGCqWLTAPLcMtD5SDKr24z3aiUvKr9bJpdrcLg1y3G",
        "private key",
    ),
    "pubkey not on the curve": (
        "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Q5JXayek4PRsn35jii4veMimro1xefsM58PgBMrvdYre8QyULY",
        "is no valid extended",
    ),
    "invalid checksum": (
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHL",
        "private key",
    ),
}


def decoded(text: str) -> bytes:
    """Without its checksum. Written anew, to check by."""
    number = 0
    for char in text:
        number = number * 58 + ALPHABET.index(char)
    return number.to_bytes(82)[:-4]


def encoded(content: bytes) -> str:
    number = int.from_bytes(content + hashlib.sha256(hashlib.sha256(content).digest()).digest()[:4])
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return text


def xpub_at(words: str, path: str) -> str:
    """What a wallet exports: the extended public key at `path`, by eth-account's private derivation."""
    digest = hmac.digest(b"Bitcoin seed", seed_from_mnemonic(words, ""), "sha512")
    key, chain_code = digest[:32], digest[32:]
    steps = HDPath(path)._path
    for step in steps:
        key, chain_code = derive_child_key(key, chain_code, step)
    public = PrivateKey(key).public_key.to_compressed_bytes()
    header = bytes.fromhex("0488b21e") + bytes([len(steps)]) + b"parent"[:4] + steps[-1].serialize()
    return encoded(header + chain_code + public)


@pytest.mark.parametrize(("parent", "index", "child"), PUBLIC_STEPS)
def test_derivation__vectors_of_bip32(parent: str, index: int, child: str) -> None:
    """A step by path, and then an address, is the child's own address; so is the key itself."""
    stepped, direct = read_key(parent, str(index)), read_key(child, "")
    assert stepped.address(0) == direct.address(0)


def test_address__of_the_well_known_words__is_what_every_test_chain_shows() -> None:
    """anvil prints these at start: https://getfoundry.sh/anvil"""
    key = read_key(XPUB, "0")
    for index, shown in enumerate(ANVIL_ADDRESSES):
        assert key.address(index) == bytes.fromhex(shown[2:])


@pytest.mark.parametrize("index", [0, 1, 2, 7, 1_000, INDEX_END - 1])
@pytest.mark.parametrize(
    "words", [SEED_WORDS, "legal winner thank year wave sausage worth useful legal winner thank yellow"]
)
def test_address__is_the_one_the_private_key_has(words: str, index: int) -> None:
    theirs = Account.from_mnemonic(words, account_path=f"m/44'/60'/0'/0/{index}").address
    ours = read_key(xpub_at(words, "m/44'/60'/0'"), "0").address(index)
    assert ours == bytes.fromhex(theirs[2:])
    assert read_key(xpub_at(words, "m/44'/60'/0'/0"), "").address(index) == ours


@given(st.integers(0, INDEX_END - 1), st.integers(0, INDEX_END - 1))
def test_address__of_any_steps__is_the_one_the_private_key_has(step: int, index: int) -> None:
    theirs = Account.from_mnemonic(SEED_WORDS, account_path=f"m/44'/60'/0'/{step}/{index}").address
    assert read_key(xpub_at(SEED_WORDS, "m/44'/60'/0'"), str(step)).address(index) == bytes.fromhex(theirs[2:])


def test_key__however_written__has_one_id_that_gives_nothing_away() -> None:
    other_header = encoded(bytes.fromhex("043587cf") + bytes([5]) + decoded(XPUB)[5:])
    assert other_header.startswith("tpub")
    key = read_key(XPUB, "0")
    assert key.id == read_key(other_header, "0").id == read_key(XPUB, "1").id
    assert key.id != read_key(OTHER_XPUB, "0").id
    assert key.id not in decoded(XPUB).hex()
    for secret in (XPUB[10:30], decoded(XPUB)[13:45].hex(), str(decoded(XPUB)[13:45]), str(decoded(XPUB)[45:])):
        assert secret not in repr(key)


@pytest.mark.parametrize(("text", "says"), NO_KEYS.values(), ids=NO_KEYS)
def test_read_key__what_bip32_calls_invalid__is_refused_without_showing_it(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        read_key(text, "0")
    assert text[8:20] not in str(refused.value)


PRIVATE = {
    "xprv": XPRV,
    "xprv with a typing error": NO_KEYS["invalid checksum"][0],
    "xprv cut short": XPRV[:40],
    "xpub that holds a private key": NO_KEYS["pubkey version, prvkey"][0],
    "a raw key": "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "a raw key without 0x": "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "the words": SEED_WORDS,
    "white space before it": f" {XPRV}",
}


@pytest.mark.parametrize("text", PRIVATE.values(), ids=PRIVATE)
def test_check_xpub__a_private_key__is_called_one_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_xpub(text)
    assert "is a private key" in str(refused.value)
    assert "give the extended public key" in str(refused.value)
    assert text.strip()[5:20] not in str(refused.value)


@pytest.mark.parametrize("version", sorted(derivation._PRIVATE))
def test_check_xpub__private_version_bytes_of_any_kind__are_refused(version: int) -> None:
    content = version.to_bytes(4) + decoded(XPRV)[4:]
    with pytest.raises(ValueError, match="is a private key"):
        check_xpub(encoded(content))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no extended public key; copy"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "is no extended public key"),
        (XPUB[:-1], "110 characters instead of 111"),
        (XPUB + "1", "112 characters instead of 111"),
        (XPUB[:-1] + "x", "wrong checksum"),
        (XPUB[:20] + "z" + XPUB[21:], "wrong checksum"),
        (encoded(bytes.fromhex("04b24746") + decoded(XPUB)[4:]), "another kind (version 0x04b24746)"),
        (NO_KEYS["pubkey not on the curve"][0], "is no valid extended public key"),
        (NO_KEYS["pubkey prefix 04"][0], "is no valid extended"),
        (NO_KEYS["depth 0 with a parent"][0], "is no valid extended"),
        ("x" * 100_000, "is no extended public key"),
        ("xpub\u0661", "is no extended public key"),
    ],
)
def test_check_xpub__no_extended_public_key__says_what_to_do(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_xpub(text)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "steps"), [("", ()), ("0", (0,)), ("0/5", (0, 5)), (f"{INDEX_END - 1}", (INDEX_END - 1,))]
)
def test_read_path__plain_steps__are_read(text: str, steps: tuple[int, ...]) -> None:
    assert read_path(text) == steps


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0'", "hardened"),
        ("44'/60'/0'/0", "hardened"),
        ("0/1h", "hardened"),
        ("0/1H", "hardened"),
        (str(INDEX_END), "is no path"),
        ("m/0", "is no path"),
        ("/0", "is no path"),
        ("0/", "is no path"),
        ("01", "is no path"),
        ("-1", "is no path"),
        ("\u0661", "is no path"),
        (" 0", "is no path"),
        ("0/" * 8 + "0", "has 9 steps"),
    ],
)
def test_read_path__anything_else__is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_path(text)


def test_read_key__too_deep__is_refused() -> None:
    deep = bytearray(decoded(XPUB))
    deep[4] = 254
    assert read_key(encoded(bytes(deep)), "").address(0) == read_key(XPUB, "").address(0)
    with pytest.raises(ValueError, match="254 steps below"):
        read_key(encoded(bytes(deep)), "0")


def test_check_xpub__a_good_one__is_given_back() -> None:
    assert check_xpub(XPUB) == XPUB
    assert check_xpub(OTHER_XPUB) == OTHER_XPUB
