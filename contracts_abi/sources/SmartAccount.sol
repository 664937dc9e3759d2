// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// An account that is a contract: it does what its owner has signed, whoever sends it in. So the payer a token's log
/// names (this contract) is never the sender of the transaction. Two ways in, as in the field: a relayer calls
/// `execTransaction` (Safe's event, of v1.4.1), or a bundler goes through `BundlerEntry`. A call that fails inside leaves
/// a transaction that succeeded. For local chains only.
contract SmartAccount {
    address public immutable owner;
    address public immutable entry;
    uint256 public nonce;

    event ExecutionSuccess(bytes32 indexed txHash, uint256 payment);
    event ExecutionFailure(bytes32 indexed txHash, uint256 payment);

    error CallerIsNotEntry(address caller);
    error InvalidSignature();

    constructor(address owner_, address entry_) {
        owner = owner_;
        entry = entry_;
    }

    /// What the owner signs: this account, on this chain, the call, once.
    function hashOf(address to, bytes calldata data) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), nonce, to, keccak256(data)));
    }

    function execTransaction(address to, bytes calldata data, uint8 v, bytes32 r, bytes32 s)
        external
        returns (bool success)
    {
        bytes32 hash = hashOf(to, data);
        _consume(hash, v, r, s);
        (success,) = to.call(data);
        if (success) emit ExecutionSuccess(hash, 0);
        else emit ExecutionFailure(hash, 0);
    }

    /// As `execTransaction`, for the entry, which tells of it itself.
    function executeUserOp(address to, bytes calldata data, uint8 v, bytes32 r, bytes32 s)
        external
        returns (bytes32 hash, bool success)
    {
        if (msg.sender != entry) revert CallerIsNotEntry(msg.sender);
        hash = hashOf(to, data);
        _consume(hash, v, r, s);
        (success,) = to.call(data);
    }

    function _consume(bytes32 hash, uint8 v, bytes32 r, bytes32 s) private {
        if (ecrecover(hash, v, r, s) != owner) revert InvalidSignature();
        ++nonce;
    }
}
