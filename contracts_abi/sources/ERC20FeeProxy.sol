// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// Request Network's way to say what a payment is for: the payer has this contract move the money, and it emits the
/// reference, of which the log holds the hash (`bytes indexed`). It asks nothing of the token, which may be worthless,
/// nor whether anything moved. https://docs.request.network
contract ERC20FeeProxy {
    event TransferWithReferenceAndFee(
        address tokenAddress,
        address to,
        uint256 amount,
        bytes indexed paymentReference,
        uint256 feeAmount,
        address feeAddress
    );

    error TransferFailed(address token);

    function transferFromWithReferenceAndFee(
        address tokenAddress,
        address to,
        uint256 amount,
        bytes calldata paymentReference,
        uint256 feeAmount,
        address feeAddress
    ) external {
        _pull(tokenAddress, to, amount);
        if (feeAmount > 0 && feeAddress != address(0)) _pull(tokenAddress, feeAddress, feeAmount);
        emit TransferWithReferenceAndFee(tokenAddress, to, amount, paymentReference, feeAmount, feeAddress);
    }

    /// Takes tokens that return nothing as well.
    function _pull(address token, address to, uint256 amount) private {
        (bool success, bytes memory answer) = token.call(
            abi.encodeWithSignature("transferFrom(address,address,uint256)", msg.sender, to, amount)
        );
        if (!success || (answer.length > 0 && !abi.decode(answer, (bool)))) revert TransferFailed(token);
    }
}
