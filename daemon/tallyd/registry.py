"""The registered contracts: `config/contracts/<product>.toml`.

It owns those files: `tallyd contract add` and a host's first drop put them there, the daemon reads
them. A contract is parsed once and again only when its file changed. One damaged contract stops its
own product and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.contract import ContractError, parse_contract
from tallyd.contract.parse import CONTRACT_MAX_BYTES
from tallyd.errors import NotRegistered
from tallyd.files import replace_file

if TYPE_CHECKING:
    from tallyd.contract import Contract
    from tallyd.paths import Paths


class Registry:
    """Looks contracts up by product."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._parsed: dict[str, tuple[tuple[int, int, int], Contract]] = {}

    def products(self) -> list[str]:
        """The products that a contract file is there for, readable or not."""
        try:
            return sorted(file.stem for file in self._paths.contracts.glob("*.toml"))
        except OSError:
            return []

    def get(self, product: str) -> Contract:
        """The contract registered for `product`. Raises NotRegistered, saying what to do."""
        file = self._paths.contracts / f"{product}.toml"
        try:
            about = file.stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            known = self._parsed.get(product)
            if known is not None and known[0] == stamp:
                return known[1]
            with file.open("rb") as opened:
                text = opened.read(CONTRACT_MAX_BYTES + 1)
            contract = parse_contract(text, str(file))
        except FileNotFoundError:
            raise NotRegistered(
                f"no contract is registered for {product!r}", 'run "tallyd contract add FILE"'
            ) from None
        except OSError as error:
            raise NotRegistered(
                f"{file} cannot be read: {error.strerror}", "mend its permissions"
            ) from None
        except ContractError as error:
            raise NotRegistered(str(error), 'mend it, or run "tallyd contract add FILE"') from None
        if contract.product != product:
            raise NotRegistered(
                f"{file} is the contract of {contract.product!r}", 'run "tallyd contract add FILE"'
            )
        self._parsed[product] = (stamp, contract)
        return contract

    def add(self, contract: Contract) -> None:
        """Register `contract`, in place of an earlier one of its product. Raises StateUnusable."""
        replace_file(self._paths.contracts / f"{contract.product}.toml", contract.text)
