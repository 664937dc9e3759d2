// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {SmartAccount} from "./SmartAccount.sol";

/// Where bundlers put many accounts' operations into one transaction of their own, as ERC-4337's EntryPoint does
/// (https://eips.ethereum.org/EIPS/eip-4337): one that fails is told of and does not fail the others.
contract BundlerEntry {
    struct UserOperation {
        SmartAccount sender;
        address to;
        bytes data;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    event UserOperationEvent(
        bytes32 indexed userOpHash,
        address indexed sender,
        address indexed paymaster,
        uint256 nonce,
        bool success,
        uint256 actualGasCost,
        uint256 actualGasUsed
    );

    function handleOps(UserOperation[] calldata ops) external {
        for (uint256 i = 0; i < ops.length; ++i) {
            UserOperation calldata op = ops[i];
            uint256 nonce = op.sender.nonce();
            (bytes32 hash, bool success) = op.sender.executeUserOp(op.to, op.data, op.v, op.r, op.s);
            emit UserOperationEvent(hash, address(op.sender), address(0), nonce, success, 0, 0);
        }
    }
}
