// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// The proxy in front of USDC (Circle's FiatTokenProxy): older than EIP-1967, so it keeps the address of its code in
/// another slot, and the argument of its `Upgraded` is not indexed: the same topic0, one topic less.
/// Anybody may exchange the code: for local chains only.
contract CircleLikeProxy {
    bytes32 private constant SLOT = keccak256("org.zeppelinos.proxy.implementation");

    event Upgraded(address implementation);

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
