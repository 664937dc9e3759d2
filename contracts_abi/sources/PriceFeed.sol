// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// A price as Chainlink's feeds answer it (AggregatorV3Interface), set by the test: any answer, also a negative one, of
/// any age, or none because it reverts.
contract PriceFeed {
    uint8 public immutable decimals;
    string public description;
    int256 private _answer;
    uint256 private _updatedAt;
    uint80 private _round;
    bool private _isBroken;

    error Broken();

    constructor(string memory description_, uint8 decimals_, int256 answer) {
        description = description_;
        decimals = decimals_;
        set(answer, 0);
    }

    /// `updatedAt`: seconds since 1970; 0 for an answer that is always as new as the block it is asked at.
    function set(int256 answer, uint256 updatedAt) public {
        _answer = answer;
        _updatedAt = updatedAt;
        ++_round;
    }

    function setBroken(bool isBroken) external {
        _isBroken = isBroken;
    }

    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        if (_isBroken) revert Broken();
        uint256 at = _updatedAt == 0 ? block.timestamp : _updatedAt;
        return (_round, _answer, at, at, _round);
    }
}
