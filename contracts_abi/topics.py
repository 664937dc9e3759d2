"""Topic 0 of the events that are read beside `Transfer`: keccak-256 of their signatures. A test computes each.

`LABELS` name what a transfer is for; `RISKS` announce what becomes of a token. Which contracts are believed is not
said here.
"""

from __future__ import annotations

AUTHORIZATION_USED = bytes.fromhex("98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5")
TRANSFER_REFERENCE = bytes.fromhex("7855a21bb35d93fe5a30e66615bc3857a3c381837ae3e655b44ea96c9456e80a")
TRANSFER_WITH_MEMO = bytes.fromhex("57bc7354aa85aed339e000bccffabbc529466af35f0772c8f8ee1145927de7f0")
TRANSFER_WITH_REFERENCE_AND_FEE = bytes.fromhex("9f16cbcc523c67a60c450e5ffe4f3b7b6dbe772e7abcadb2686ce029a9a0a2b6")
PAYMENT_CHARGED = bytes.fromhex("943ae4341dd799d7aeedc501f616cd26b134639e0bc2ec059581ba3ebbf1e7d0")
PAYMENT_CAPTURED = bytes.fromhex("e749f7bbd01b49bb05abf26ca492cb4dfdea6bedeada8a40fdccd478c73a74e2")

PAUSE = bytes.fromhex("6985a02210a168e66602d3235cb6db0e70f92b3ba4d376a33c0f3d9434bff625")
UNPAUSE = bytes.fromhex("7805862f689e2f13df9f062ff482ad3ad112aca9e0847911ed832e158c525b33")
PAUSED = bytes.fromhex("62e78cea01bee320cd4e420270b5ea74000d11b0c9f74754ebdbfc544b05a258")
UNPAUSED = bytes.fromhex("5db9ee0a495bf2e6ff9c91a7834c1ba4fdd244a5e8aa4e537bd38aeae4b073aa")
PAUSE_STATE_UPDATE = bytes.fromhex("f79595a776ff71356be9e7ff196226a16d0f4d637ff39031256c0eafd7af6b5e")
UPGRADED = bytes.fromhex("bc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b")
DEPRECATE = bytes.fromhex("cc358699805e9a8b7f77b522628c7cb9abd07d9efb86b6fb616af1609036a99e")
BLACKLISTED = bytes.fromhex("ffa4e6181777692565cf28528fc88fd1516ea86b56da075235fa575af6a4b855")
UNBLACKLISTED = bytes.fromhex("117e3210bb9aa7d9baff172026820255c6f6c30ba8999d1c2fd88e2848137c4e")
ADDED_BLACKLIST = bytes.fromhex("42e160154868087d6bfdc0ca23d96a1c1cfa32f1b72ba9ba27b69b98a0d819dc")
REMOVED_BLACKLIST = bytes.fromhex("d7e9ec6e6ecd65492dce6bf513cd6867560d49544421d0783ddf06e76c24470c")
FREEZE_ADDRESS = bytes.fromhex("1aa660498c83ea285bc55e4cfc00afcaa7120798db87b74f3c0d7c6e001bc392")
UNFREEZE_ADDRESS = bytes.fromhex("150465b020dfc06a59269da94ed66db9b65a516cf4fdd5f583b0f12752339bbe")
BLACKLISTED_FLAG = bytes.fromhex("cf3473b85df1594d47b6958f29a32bea0abff9dd68296f7bf33443646793cfd8")
ACCOUNT_PAUSED = bytes.fromhex("ae7f60c1b8f645c3beffeb531169cbc446874bbf247698325318879ac850c346")
ACCOUNT_UNPAUSED = bytes.fromhex("0c18efbde61ac471ead6960a3f1097735c68ecdb685ae8e2a108c28385399a65")
ACCOUNT_FROZEN = bytes.fromhex("4f2a367e694e71282f29ab5eaa04c4c0be45ac5bf2ca74fb67068b98bdc2887d")
ACCOUNT_UNFROZEN = bytes.fromhex("f915cd9fe234de6e8d3afe7bf2388d35b2b6d48e8c629a24602019bde79c213a")

SIGNATURES = {
    AUTHORIZATION_USED: "AuthorizationUsed(address,bytes32)",
    TRANSFER_REFERENCE: "TransferReference(bytes32)",
    TRANSFER_WITH_MEMO: "TransferWithMemo(address,address,uint256,bytes32)",
    TRANSFER_WITH_REFERENCE_AND_FEE: "TransferWithReferenceAndFee(address,address,uint256,bytes,uint256,address)",
    PAYMENT_CHARGED: (
        "PaymentCharged(bytes32,(address,address,address,address,uint120,uint48,uint48,uint48,uint16,uint16,address,"
        "uint256),uint256,address,uint16,address)"
    ),
    PAYMENT_CAPTURED: "PaymentCaptured(bytes32,uint256,uint16,address)",
    PAUSE: "Pause()",
    UNPAUSE: "Unpause()",
    PAUSED: "Paused(address)",
    UNPAUSED: "Unpaused(address)",
    PAUSE_STATE_UPDATE: "PauseStateUpdate(address,bool)",
    UPGRADED: "Upgraded(address)",
    DEPRECATE: "Deprecate(address)",
    BLACKLISTED: "Blacklisted(address)",
    UNBLACKLISTED: "UnBlacklisted(address)",
    ADDED_BLACKLIST: "AddedBlackList(address)",
    REMOVED_BLACKLIST: "RemovedBlackList(address)",
    FREEZE_ADDRESS: "FreezeAddress(address)",
    UNFREEZE_ADDRESS: "UnfreezeAddress(address)",
    BLACKLISTED_FLAG: "Blacklisted(address,bool)",
    ACCOUNT_PAUSED: "AccountPaused(address)",
    ACCOUNT_UNPAUSED: "AccountUnpaused(address)",
    ACCOUNT_FROZEN: "AccountFrozen(address)",
    ACCOUNT_UNFROZEN: "AccountUnfrozen(address)",
}
"""EIP-3009, ERC-7699, Tempo TIP-20, Request Network's ERC20FeeProxy, Base commerce-payments; Circle, OpenZeppelin,
Tempo, EIP-1967, Tether, Paxos, TrueUSD, RLUSD and AUSD."""
