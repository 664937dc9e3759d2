// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

interface IMovable {
    function moveFor(address from, address to, uint256 amount) external;
}

/// A token with the habits of USDT on Ethereum, whose source was read: transfers return nothing; a fee can be switched
/// on, and then the log of a payment shows what was received, after a log of the fee to the owner; addresses can be
/// frozen and their balance destroyed without a Transfer; supply comes and goes without one; the whole token can be
/// paused, or deprecated in favour of another that moves the money from then on. All arguments of its own events are
/// un-indexed. Every function is open to every caller: for local chains only.
contract TetherLikeToken {
    string public name;
    string public symbol;
    uint8 public immutable decimals;
    address public immutable owner;
    uint256 public totalSupply;
    uint256 public basisPointsRate;
    uint256 public maximumFee;
    bool public paused;
    bool public deprecated;
    address public upgradedAddress;
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;
    mapping(address account => bool) public isBlackListed;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event Issue(uint256 amount);
    event Redeem(uint256 amount);
    event Deprecate(address newAddress);
    event Params(uint256 feeBasisPoints, uint256 maxFee);
    event DestroyedBlackFunds(address _blackListedUser, uint256 _balance);
    event AddedBlackList(address _user);
    event RemovedBlackList(address _user);
    event Pause();
    event Unpause();

    error Paused();
    error Frozen(address account);
    error NotFrozen(address account);

    constructor(string memory name_, string memory symbol_, uint8 decimals_) {
        name = name_;
        symbol = symbol_;
        decimals = decimals_;
        owner = msg.sender;
    }

    /// Not of USDT: how a test fills purses, with a Transfer from nobody.
    function mint(address to, uint256 amount) external {
        totalSupply += amount;
        balanceOf[to] += amount;
        emit Transfer(address(0), to, amount);
    }

    function transfer(address to, uint256 amount) external {
        _pay(msg.sender, to, amount);
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
        emit Approval(msg.sender, spender, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        _pay(from, to, amount);
    }

    function _pay(address from, address to, uint256 amount) private {
        if (paused) revert Paused();
        if (isBlackListed[from]) revert Frozen(from);
        if (deprecated) return IMovable(upgradedAddress).moveFor(from, to, amount);
        uint256 fee = (amount * basisPointsRate) / 10_000;
        if (fee > maximumFee) fee = maximumFee;
        balanceOf[from] -= amount;
        balanceOf[to] += amount - fee;
        if (fee > 0) {
            balanceOf[owner] += fee;
            emit Transfer(from, owner, fee);
        }
        emit Transfer(from, to, amount - fee);
    }

    function setParams(uint256 newBasisPoints, uint256 newMaxFee) external {
        basisPointsRate = newBasisPoints;
        maximumFee = newMaxFee;
        emit Params(newBasisPoints, newMaxFee);
    }

    /// Supply for the owner, or from it; no Transfer tells of either.
    function issue(uint256 amount) external {
        balanceOf[owner] += amount;
        totalSupply += amount;
        emit Issue(amount);
    }

    function redeem(uint256 amount) external {
        totalSupply -= amount;
        balanceOf[owner] -= amount;
        emit Redeem(amount);
    }

    function addBlackList(address user) external {
        isBlackListed[user] = true;
        emit AddedBlackList(user);
    }

    function removeBlackList(address user) external {
        isBlackListed[user] = false;
        emit RemovedBlackList(user);
    }

    /// The balance is gone, and no Transfer tells of it.
    function destroyBlackFunds(address user) external {
        if (!isBlackListed[user]) revert NotFrozen(user);
        uint256 balance = balanceOf[user];
        balanceOf[user] = 0;
        totalSupply -= balance;
        emit DestroyedBlackFunds(user, balance);
    }

    /// From now on `newAddress` moves the money, and emits the Transfers.
    function deprecate(address newAddress) external {
        deprecated = true;
        upgradedAddress = newAddress;
        emit Deprecate(newAddress);
    }

    function pause() external {
        paused = true;
        emit Pause();
    }

    function unpause() external {
        paused = false;
        emit Unpause();
    }
}
