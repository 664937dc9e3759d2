// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {BackingToken} from "./BackingToken.sol";

/// A second address of the same money, as the first EURe had: a payment through it moves the backing token, which emits
/// its Transfer, and then this contract emits a Transfer of the same movement. Two logs, one payment.
contract TokenFrontend {
    BackingToken public immutable backing;

    event Transfer(address indexed from, address indexed to, uint256 value);

    constructor(BackingToken backing_) {
        backing = backing_;
    }

    function symbol() external view returns (string memory) {
        return backing.symbol();
    }

    function decimals() external view returns (uint8) {
        return backing.decimals();
    }

    function balanceOf(address account) external view returns (uint256) {
        return backing.balanceOf(account);
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        backing.moveFor(msg.sender, to, amount);
        emit Transfer(msg.sender, to, amount);
        return true;
    }
}
