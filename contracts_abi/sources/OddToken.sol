// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TokenBase} from "./TokenBase.sol";

/// A token that can also emit anything at all: logs with the topic0 of Transfer that are no ERC-20 transfers.
contract OddToken is TokenBase {
    constructor(string memory name_, string memory symbol_, uint8 decimals_) TokenBase(name_, symbol_, decimals_) {}

    /// A log with these topics, one to four, and this data. Nothing moves.
    function emitLog(bytes32[] calldata topics, bytes calldata data) external {
        bytes memory copy = data;
        uint256 count = topics.length;
        (bytes32 t0, bytes32 t1, bytes32 t2, bytes32 t3) = (
            topics[0],
            count > 1 ? topics[1] : bytes32(0),
            count > 2 ? topics[2] : bytes32(0),
            count > 3 ? topics[3] : bytes32(0)
        );
        assembly {
            let at := add(copy, 32)
            let size := mload(copy)
            switch count
            case 1 { log1(at, size, t0) }
            case 2 { log2(at, size, t0, t1) }
            case 3 { log3(at, size, t0, t1, t2) }
            default { log4(at, size, t0, t1, t2, t3) }
        }
    }
}
