// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// A list of addresses as Chainalysis' sanctions oracle answers and announces it, kept by the test; it can be made to
/// revert, as one that was taken out of service would.
contract SanctionsList {
    mapping(address account => bool) private _isListed;
    bool private _isBroken;

    event SanctionedAddressesAdded(address[] addrs);
    event SanctionedAddressesRemoved(address[] addrs);

    error Broken();

    function isSanctioned(address addr) external view returns (bool) {
        if (_isBroken) revert Broken();
        return _isListed[addr];
    }

    function addToSanctionsList(address[] calldata addrs) external {
        for (uint256 i = 0; i < addrs.length; ++i) _isListed[addrs[i]] = true;
        emit SanctionedAddressesAdded(addrs);
    }

    function removeFromSanctionsList(address[] calldata addrs) external {
        for (uint256 i = 0; i < addrs.length; ++i) _isListed[addrs[i]] = false;
        emit SanctionedAddressesRemoved(addrs);
    }

    function setBroken(bool isBroken) external {
        _isBroken = isBroken;
    }
}
