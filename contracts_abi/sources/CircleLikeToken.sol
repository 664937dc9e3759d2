// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TokenBase} from "./TokenBase.sol";

/// A token with the habits of USDC (Circle's FiatToken): payments by the payer's signature, sent in by anybody
/// (https://eips.ethereum.org/EIPS/eip-3009), a blacklist, a pause, and `Mint` and `Burn` beside their Transfers.
/// The powers of its owner are open to every caller: for local chains only.
contract CircleLikeToken is TokenBase {
    struct Authorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    bytes32 public constant TRANSFER_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "TransferWithAuthorization"
        "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization"
        "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant CANCEL_AUTHORIZATION_TYPEHASH =
        keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
    string public constant version = "2";

    bool public paused;
    mapping(address account => bool) public isBlacklisted;
    mapping(address authorizer => mapping(bytes32 nonce => bool)) public authorizationState;

    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);
    event Mint(address indexed minter, address indexed to, uint256 amount);
    event Burn(address indexed burner, uint256 amount);
    event Blacklisted(address indexed _account);
    event UnBlacklisted(address indexed _account);
    event Pause();
    event Unpause();

    error Paused();
    error Frozen(address account);
    error CallerIsNotPayee(address caller);
    error AuthorizationIsUsed(address authorizer, bytes32 nonce);
    error AuthorizationIsNotValidNow(uint256 validAfter, uint256 validBefore);
    error InvalidSignature();

    constructor(string memory name_, string memory symbol_, uint8 decimals_) TokenBase(name_, symbol_, decimals_) {}

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                block.chainid,
                address(this)
            )
        );
    }

    function mint(address to, uint256 amount) external override {
        emit Mint(msg.sender, to, amount);
        _mint(to, amount);
    }

    function burn(uint256 amount) external {
        uint256 balance = _held[msg.sender];
        if (balance < amount) revert InsufficientBalance(msg.sender, balance, amount);
        _held[msg.sender] = balance - amount;
        totalSupply -= amount;
        emit Burn(msg.sender, amount);
        emit Transfer(msg.sender, address(0), amount);
    }

    /// Anybody may send it in, and anybody who sees it may do so first.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        Authorization memory given = Authorization(from, to, value, validAfter, validBefore, nonce);
        _transferBy(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, given, v, r, s);
    }

    /// The payee alone may send it in.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        if (to != msg.sender) revert CallerIsNotPayee(msg.sender);
        Authorization memory given = Authorization(from, to, value, validAfter, validBefore, nonce);
        _transferBy(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, given, v, r, s);
    }

    function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external {
        if (authorizationState[authorizer][nonce]) revert AuthorizationIsUsed(authorizer, nonce);
        _checkSigned(keccak256(abi.encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)), authorizer, v, r, s);
        authorizationState[authorizer][nonce] = true;
        emit AuthorizationCanceled(authorizer, nonce);
    }

    function blacklist(address account) external {
        isBlacklisted[account] = true;
        emit Blacklisted(account);
    }

    function unBlacklist(address account) external {
        isBlacklisted[account] = false;
        emit UnBlacklisted(account);
    }

    function pause() external {
        paused = true;
        emit Pause();
    }

    function unpause() external {
        paused = false;
        emit Unpause();
    }

    function _transferBy(bytes32 typehash, Authorization memory given, uint8 v, bytes32 r, bytes32 s) internal {
        if (block.timestamp <= given.validAfter || block.timestamp >= given.validBefore) {
            revert AuthorizationIsNotValidNow(given.validAfter, given.validBefore);
        }
        if (authorizationState[given.from][given.nonce]) revert AuthorizationIsUsed(given.from, given.nonce);
        _checkSigned(keccak256(abi.encode(typehash, given)), given.from, v, r, s); // a static struct: its fields in line
        authorizationState[given.from][given.nonce] = true;
        emit AuthorizationUsed(given.from, given.nonce);
        _move(given.from, given.to, given.value);
    }

    function _checkSigned(bytes32 structHash, address signer, uint8 v, bytes32 r, bytes32 s) private view {
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", DOMAIN_SEPARATOR(), structHash));
        if (signer == address(0) || ecrecover(digest, v, r, s) != signer) revert InvalidSignature();
    }

    function _move(address from, address to, uint256 amount) internal override {
        if (paused) revert Paused();
        if (isBlacklisted[msg.sender]) revert Frozen(msg.sender);
        if (isBlacklisted[from]) revert Frozen(from);
        if (isBlacklisted[to]) revert Frozen(to);
        super._move(from, to, amount);
    }
}
