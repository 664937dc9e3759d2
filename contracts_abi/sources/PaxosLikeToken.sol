// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {CircleLikeToken} from "./CircleLikeToken.sol";

/// As Paxos' tokens (PYUSD, USDP, USDG) do: a batch of signed payments in which one that was used before is skipped. The
/// transaction succeeds, an event says so, and no money moves for it.
contract PaxosLikeToken is CircleLikeToken {
    struct Signed {
        Authorization given;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    event AuthorizationAlreadyUsed(address indexed authorizer, bytes32 indexed nonce);

    constructor(string memory name_, string memory symbol_, uint8 decimals_)
        CircleLikeToken(name_, symbol_, decimals_)
    {}

    function transferWithAuthorizationBatch(Signed[] calldata batch) external {
        for (uint256 i = 0; i < batch.length; ++i) {
            Authorization calldata given = batch[i].given;
            if (authorizationState[given.from][given.nonce]) {
                emit AuthorizationAlreadyUsed(given.from, given.nonce);
                continue;
            }
            _transferBy(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, given, batch[i].v, batch[i].r, batch[i].s);
        }
    }
}
