// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TokenBase} from "./TokenBase.sol";

/// A token that another contract may move in its holders' names: what stands behind a front end (`TokenFrontend`), or
/// takes over from a deprecated token (`TetherLikeToken`). Open to every caller: for local chains only.
contract BackingToken is TokenBase {
    constructor(string memory name_, string memory symbol_, uint8 decimals_) TokenBase(name_, symbol_, decimals_) {}

    function moveFor(address from, address to, uint256 amount) external {
        _move(from, to, amount);
    }
}
