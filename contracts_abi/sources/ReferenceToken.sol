// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TokenBase} from "./TokenBase.sol";

/// A token whose transfers carry a note to the payee, in both forms that exist:
/// ERC-7699 (https://eips.ethereum.org/EIPS/eip-7699), whose event stands before the Transfer it labels, and
/// Tempo's TIP-20, where a second event tells of the same movement after the Transfer: counting both doubles the money.
contract ReferenceToken is TokenBase {
    event TransferReference(bytes32 indexed loggedReference);
    event TransferWithMemo(address indexed from, address indexed to, uint256 amount, bytes32 indexed memo);

    constructor(string memory name_, string memory symbol_, uint8 decimals_) TokenBase(name_, symbol_, decimals_) {}

    function transfer(address to, uint256 amount, bytes calldata transferReference) external returns (bool) {
        emit TransferReference(_logged(transferReference));
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount, bytes calldata transferReference)
        external
        returns (bool)
    {
        emit TransferReference(_logged(transferReference));
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }

    function transferWithMemo(address to, uint256 amount, bytes32 memo) external {
        _move(msg.sender, to, amount);
        emit TransferWithMemo(msg.sender, to, amount, memo);
    }

    /// A reference of up to 32 bytes is logged as it is, a longer one by its hash.
    function _logged(bytes calldata transferReference) private pure returns (bytes32) {
        return transferReference.length <= 32 ? bytes32(transferReference) : keccak256(transferReference);
    }
}
