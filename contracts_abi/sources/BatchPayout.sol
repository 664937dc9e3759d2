// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

interface IERC20 {
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}

/// Many token transfers in one transaction: what an exchange's payout looks like to a watcher, and load for tests.
/// Open to every caller; hold nothing of value in it.
contract BatchPayout {
    error LengthMismatch(uint256 recipients, uint256 amounts);
    error TransferFailed(uint256 index);

    /// Pays `amounts[i]` base units to `recipients[i]`, in order, out of this contract's own balance.
    function payout(IERC20 token, address[] calldata recipients, uint256[] calldata amounts) external {
        if (recipients.length != amounts.length) revert LengthMismatch(recipients.length, amounts.length);
        for (uint256 i = 0; i < recipients.length; ++i) {
            if (!token.transfer(recipients[i], amounts[i])) revert TransferFailed(i);
        }
    }

    /// The same out of the caller's balance; the caller has approved this contract before.
    function payoutFrom(IERC20 token, address[] calldata recipients, uint256[] calldata amounts) external {
        if (recipients.length != amounts.length) revert LengthMismatch(recipients.length, amounts.length);
        for (uint256 i = 0; i < recipients.length; ++i) {
            if (!token.transferFrom(msg.sender, recipients[i], amounts[i])) revert TransferFailed(i);
        }
    }

    /// Pays `amount` base units to `to`, `times` times, out of this contract's own balance.
    function repeat(IERC20 token, address to, uint256 amount, uint256 times) external {
        for (uint256 i = 0; i < times; ++i) {
            if (!token.transfer(to, amount)) revert TransferFailed(i);
        }
    }
}
