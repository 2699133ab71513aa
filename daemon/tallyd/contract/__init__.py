"""The contract of a product: what may be collected, and under which consent.

Pure code, shared by the daemon and the gateway: it opens no file, no socket and no clock. It owns
the contract's grammar (`parse`), the allowlist at work (`screen`), the consent rules (`consent`)
and the arithmetic of UTC days (`days`). It guarantees that what `screen` lets through is listed in
the contract. It does not know where contracts, choices or counts are kept.
"""

from tallyd.contract.errors import ContractError
from tallyd.contract.model import Contract
from tallyd.contract.parse import parse_contract

__all__ = ["Contract", "ContractError", "parse_contract"]
