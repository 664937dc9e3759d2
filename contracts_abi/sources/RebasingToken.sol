// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TokenBase} from "./TokenBase.sol";

/// A token whose balances grow and shrink by themselves, all by the same factor and without a Transfer: what was paid is
/// what the log says, and `balanceOf` says something else later.
contract RebasingToken is TokenBase {
    uint256 private constant ONE = 10_000;

    uint256 public indexBps = ONE;

    event Rebased(uint256 indexBps);

    constructor(string memory name_, string memory symbol_, uint8 decimals_) TokenBase(name_, symbol_, decimals_) {}

    /// In hundredths of a percent of what was once minted: 10,100 is one percent more for everybody.
    function rebase(uint256 indexBps_) external {
        indexBps = indexBps_;
        emit Rebased(indexBps_);
    }

    function balanceOf(address account) public view override returns (uint256) {
        return (_held[account] * indexBps) / ONE;
    }

    function _move(address from, address to, uint256 amount) internal override {
        if (to == address(0)) revert ZeroAddress();
        uint256 balance = balanceOf(from);
        if (balance < amount) revert InsufficientBalance(from, balance, amount);
        uint256 shares = (amount * ONE) / indexBps;
        _held[from] -= shares;
        _held[to] += shares;
        emit Transfer(from, to, amount);
    }
}
