// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// The least of an ERC-721: its Transfer has the topic0 of ERC-20's, the id as a fourth topic, and no data.
/// https://eips.ethereum.org/EIPS/eip-721
contract NonFungible {
    string public symbol;
    uint8 public constant decimals = 0;
    mapping(uint256 id => address) public ownerOf;
    mapping(address account => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);

    error NotOwner(uint256 tokenId);

    constructor(string memory symbol_) {
        symbol = symbol_;
    }

    function mint(address to, uint256 tokenId) external {
        ownerOf[tokenId] = to;
        ++balanceOf[to];
        emit Transfer(address(0), to, tokenId);
    }

    function transferFrom(address from, address to, uint256 tokenId) external {
        if (ownerOf[tokenId] != from) revert NotOwner(tokenId);
        ownerOf[tokenId] = to;
        --balanceOf[from];
        ++balanceOf[to];
        emit Transfer(from, to, tokenId);
    }
}
