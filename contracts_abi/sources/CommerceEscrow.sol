// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

interface IERC20 {
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}

/// Where an operator's authorised money lies until it is captured.
contract TokenStore {
    address private immutable _escrow = msg.sender;

    error CallerIsNotEscrow(address caller);
    error TransferFailed();

    function send(IERC20 token, address to, uint256 amount) external {
        if (msg.sender != _escrow) revert CallerIsNotEscrow(msg.sender);
        if (!token.transfer(to, amount)) revert TransferFailed();
    }
}

/// Authorise now, capture later, as Base's commerce-payments does it (https://github.com/base/commerce-payments, whose
/// source was read): authorised money lies in the operator's TokenStore, and the merchant is not paid. At capture or
/// charge the fee goes out first, then the rest to the receiver. Each event stands before the movements it tells of.
/// The payer has approved this contract, which is its own token collector. For local chains only.
contract CommerceEscrow {
    struct PaymentInfo {
        address operator;
        address payer;
        address receiver;
        address token;
        uint120 maxAmount;
        uint48 preApprovalExpiry;
        uint48 authorizationExpiry;
        uint48 refundExpiry;
        uint16 minFeeBps;
        uint16 maxFeeBps;
        address feeReceiver;
        uint256 salt;
    }

    struct PaymentState {
        bool hasCollectedPayment;
        uint120 capturableAmount;
        uint120 refundableAmount;
    }

    bytes32 public constant PAYMENT_INFO_TYPEHASH = keccak256(
        "PaymentInfo(address operator,address payer,address receiver,address token,uint120 maxAmount,"
        "uint48 preApprovalExpiry,uint48 authorizationExpiry,uint48 refundExpiry,uint16 minFeeBps,uint16 maxFeeBps,"
        "address feeReceiver,uint256 salt)"
    );

    mapping(bytes32 paymentInfoHash => PaymentState state) public paymentState;
    mapping(address operator => TokenStore store) public tokenStore;

    event PaymentCharged(
        bytes32 indexed paymentInfoHash,
        PaymentInfo paymentInfo,
        uint256 amount,
        address tokenCollector,
        uint16 feeBps,
        address feeReceiver
    );
    event PaymentAuthorized(
        bytes32 indexed paymentInfoHash, PaymentInfo paymentInfo, uint256 amount, address tokenCollector
    );
    event PaymentCaptured(bytes32 indexed paymentInfoHash, uint256 amount, uint16 feeBps, address feeReceiver);
    event PaymentVoided(bytes32 indexed paymentInfoHash, uint256 amount);
    event PaymentReclaimed(bytes32 indexed paymentInfoHash, uint256 amount);
    event PaymentRefunded(bytes32 indexed paymentInfoHash, uint256 amount, address tokenCollector);
    event TokenStoreCreated(address indexed operator, address tokenStore);

    error InvalidSender(address sender, address expected);
    error PaymentAlreadyCollected(bytes32 paymentInfoHash);
    error InsufficientAuthorization(bytes32 paymentInfoHash, uint256 authorizedAmount, uint256 requestedAmount);
    error RefundExceedsCapture(uint256 refund, uint256 captured);
    error BeforeAuthorizationExpiry(uint256 timestamp, uint48 expiry);
    error FeeOutOfRange(uint16 feeBps);
    error ExceedsMaxAmount(uint256 amount, uint256 maxAmount);
    error TransferFailed();

    modifier onlySender(address expected) {
        if (msg.sender != expected) revert InvalidSender(msg.sender, expected);
        _;
    }

    function getHash(PaymentInfo calldata info) public view returns (bytes32) {
        return keccak256(
            abi.encode(block.chainid, address(this), keccak256(abi.encode(PAYMENT_INFO_TYPEHASH, info)))
        );
    }

    /// Takes the money and passes it on at once.
    function charge(PaymentInfo calldata info, uint256 amount, uint16 feeBps, address feeReceiver)
        external
        onlySender(info.operator)
    {
        bytes32 hash = _collectable(info, amount);
        _checkFee(info, feeBps);
        paymentState[hash] = PaymentState(true, 0, uint120(amount));
        emit PaymentCharged(hash, info, amount, address(this), feeBps, feeReceiver);
        _collect(info, info.payer, amount);
        _distribute(info, amount, feeBps, feeReceiver);
    }

    /// Takes the money into the operator's store: the receiver has nothing yet.
    function authorize(PaymentInfo calldata info, uint256 amount) external onlySender(info.operator) {
        bytes32 hash = _collectable(info, amount);
        paymentState[hash] = PaymentState(true, uint120(amount), 0);
        emit PaymentAuthorized(hash, info, amount, address(this));
        _collect(info, info.payer, amount);
    }

    /// Pays authorised money out, all of it or a part; may be called again for the rest.
    function capture(PaymentInfo calldata info, uint256 amount, uint16 feeBps, address feeReceiver)
        external
        onlySender(info.operator)
    {
        _checkFee(info, feeBps);
        bytes32 hash = getHash(info);
        PaymentState storage state = paymentState[hash];
        if (state.capturableAmount < amount) {
            revert InsufficientAuthorization(hash, state.capturableAmount, amount);
        }
        state.capturableAmount -= uint120(amount);
        state.refundableAmount += uint120(amount);
        emit PaymentCaptured(hash, amount, feeBps, feeReceiver);
        _distribute(info, amount, feeBps, feeReceiver);
    }

    /// Gives what was not captured back to the payer.
    function void(PaymentInfo calldata info) external onlySender(info.operator) {
        (bytes32 hash, uint256 amount) = _released(info);
        emit PaymentVoided(hash, amount);
        tokenStore[info.operator].send(IERC20(info.token), info.payer, amount);
    }

    /// The payer takes it back, once the authorisation has expired.
    function reclaim(PaymentInfo calldata info) external onlySender(info.payer) {
        if (block.timestamp < info.authorizationExpiry) {
            revert BeforeAuthorizationExpiry(block.timestamp, info.authorizationExpiry);
        }
        (bytes32 hash, uint256 amount) = _released(info);
        emit PaymentReclaimed(hash, amount);
        tokenStore[info.operator].send(IERC20(info.token), info.payer, amount);
    }

    /// Gives captured money back, out of the operator's pocket.
    function refund(PaymentInfo calldata info, uint256 amount) external onlySender(info.operator) {
        bytes32 hash = getHash(info);
        uint120 captured = paymentState[hash].refundableAmount;
        if (captured < amount) revert RefundExceedsCapture(amount, captured);
        paymentState[hash].refundableAmount = captured - uint120(amount);
        emit PaymentRefunded(hash, amount, address(this));
        _collect(info, info.operator, amount);
        tokenStore[info.operator].send(IERC20(info.token), info.payer, amount);
    }

    function _collectable(PaymentInfo calldata info, uint256 amount) private view returns (bytes32 hash) {
        if (amount > info.maxAmount) revert ExceedsMaxAmount(amount, info.maxAmount);
        hash = getHash(info);
        if (paymentState[hash].hasCollectedPayment) revert PaymentAlreadyCollected(hash);
    }

    function _checkFee(PaymentInfo calldata info, uint16 feeBps) private pure {
        if (feeBps < info.minFeeBps || feeBps > info.maxFeeBps) revert FeeOutOfRange(feeBps);
    }

    function _released(PaymentInfo calldata info) private returns (bytes32 hash, uint256 amount) {
        hash = getHash(info);
        amount = paymentState[hash].capturableAmount;
        if (amount == 0) revert InsufficientAuthorization(hash, 0, 1);
        paymentState[hash].capturableAmount = 0;
    }

    function _collect(PaymentInfo calldata info, address from, uint256 amount) private {
        TokenStore store = tokenStore[info.operator];
        if (address(store) == address(0)) {
            store = new TokenStore();
            tokenStore[info.operator] = store;
            emit TokenStoreCreated(info.operator, address(store));
        }
        if (!IERC20(info.token).transferFrom(from, address(store), amount)) revert TransferFailed();
    }

    function _distribute(PaymentInfo calldata info, uint256 amount, uint16 feeBps, address feeReceiver) private {
        TokenStore store = tokenStore[info.operator];
        uint256 fee = (amount * feeBps) / 10_000;
        if (fee > 0) store.send(IERC20(info.token), feeReceiver, fee);
        if (amount > fee) store.send(IERC20(info.token), info.receiver, amount - fee);
    }
}
