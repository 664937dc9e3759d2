"""settler: watches chains for stablecoin transfers, matches them to invoices, and settles what is final.

Glossary (the words of INTERFACE.md, used for one idea each)
    invoice      what is owed
    option       one way to pay an invoice: a token on a chain to an address
    transfer     one token log on a chain
    payment      a transfer allocated to an invoice
    settlement   the final, append-only record that an invoice is paid
    reversal     a settlement undone by the chain: a contra record beside it
    suspense     money that arrived and belongs to no invoice yet
    watch        the first reading: follows the head, provisional
    settle       the second reading: follows the final height, decides
    tick         one bounded round of a stage: read, decide, commit
    span         blocks first..last, both inclusive
    anchor       a header we hold, asked again to see whether it still stands
    final        at or below the height the finality policy trusts
    halted       a chain on which nothing settles until an operator resumes it
    hold         a settlement stopped by a policy until an operator releases it
"""

__version__ = "0.1.0"
