// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// A proxy as https://eips.ethereum.org/EIPS/eip-1967 has it: the code is another contract's and can be exchanged for
/// other code at any time; the event says so, its argument indexed. Anybody may exchange it: for local chains only.
contract UpgradeableProxy {
    bytes32 private constant SLOT = bytes32(uint256(keccak256("eip1967.proxy.implementation")) - 1);

    event Upgraded(address indexed implementation);

    constructor(address implementation, bytes memory initializing) {
        upgradeTo(implementation);
        (bool success,) = implementation.delegatecall(initializing);
        require(success, "initialize failed");
    }

    function upgradeTo(address implementation) public {
        bytes32 slot = SLOT;
        assembly {
            sstore(slot, implementation)
        }
        emit Upgraded(implementation);
    }

    fallback() external {
        bytes32 slot = SLOT;
        assembly {
            calldatacopy(0, 0, calldatasize())
            let success := delegatecall(gas(), sload(slot), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(success) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }
}
