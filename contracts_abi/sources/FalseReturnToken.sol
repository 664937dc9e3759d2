// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TokenBase} from "./TokenBase.sol";

/// A token of the old kind that says `false` where others revert: the transaction succeeds, and nothing moved. Exchanges
/// that looked at the status and the call data credited such "fake deposits" in 2018.
contract FalseReturnToken is TokenBase {
    constructor(string memory name_, string memory symbol_, uint8 decimals_) TokenBase(name_, symbol_, decimals_) {}

    function transfer(address to, uint256 amount) external override returns (bool) {
        if (balanceOf(msg.sender) < amount) return false;
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external override returns (bool) {
        if (balanceOf(from) < amount || allowance[from][msg.sender] < amount) return false;
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }
}
