// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// What the test tokens with a habit of their own have in common: an ERC-20 that anybody can mint, and that can also
/// stand behind a proxy (`initialize`, since a proxy has none of what a constructor wrote). For local chains only.
/// https://eips.ethereum.org/EIPS/eip-20
abstract contract TokenBase {
    string public name;
    string public symbol;
    uint8 public decimals;
    uint256 public totalSupply;
    mapping(address account => uint256) internal _held;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error AlreadyInitialized();
    error InsufficientBalance(address account, uint256 balance, uint256 needed);
    error InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
    error ZeroAddress();

    constructor(string memory name_, string memory symbol_, uint8 decimals_) {
        initialize(name_, symbol_, decimals_);
    }

    /// Once; by the constructor, or through a proxy for the proxy's storage.
    function initialize(string memory name_, string memory symbol_, uint8 decimals_) public {
        if (bytes(name).length != 0) revert AlreadyInitialized();
        name = name_;
        symbol = symbol_;
        decimals = decimals_;
    }

    function balanceOf(address account) public view virtual returns (uint256) {
        return _held[account];
    }

    /// Creates `amount` base units for `to`; open to every caller.
    function mint(address to, uint256 amount) external virtual {
        _mint(to, amount);
    }

    function transfer(address to, uint256 amount) external virtual returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        emit Approval(msg.sender, spender, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external virtual returns (bool) {
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }

    function _spend(address from, uint256 amount) internal {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed == type(uint256).max) return;
        if (allowed < amount) revert InsufficientAllowance(msg.sender, allowed, amount);
        allowance[from][msg.sender] = allowed - amount;
    }

    function _mint(address to, uint256 amount) internal {
        if (to == address(0)) revert ZeroAddress();
        totalSupply += amount;
        _held[to] += amount;
        emit Transfer(address(0), to, amount);
    }

    function _move(address from, address to, uint256 amount) internal virtual {
        if (to == address(0)) revert ZeroAddress();
        uint256 balance = _held[from];
        if (balance < amount) revert InsufficientBalance(from, balance, amount);
        _held[from] = balance - amount;
        _held[to] += amount;
        emit Transfer(from, to, amount);
    }
}
