"""The contracts of each product: the registered one, and the one that is in force.

It owns `config/contracts/<product>.toml`, which `tallyd contract add` and a host's first drop put
there, and `state/agreed/<product>.toml`, the contract that its user agreed to by a notice or a
choice. A contract is parsed once and again only when its file changed. One damaged contract stops its
own product and no other; an agreement that cannot be read counts as none.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyd.contract import ContractError, parse_contract
from tallyd.contract.parse import CONTRACT_MAX_BYTES
from tallyd.errors import NotRegistered, refused
from tallyd.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from tallyd.contract import Contract
    from tallyd.paths import Paths


@dataclass(frozen=True, slots=True)
class Agreement:
    """The contract in force; None when there is none yet, or none that could be read."""

    contract: Contract | None
    is_damaged: bool = False


class Registry:
    """Looks contracts up by product."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._parsed: dict[Path, tuple[tuple[int, int, int], Contract]] = {}

    def products(self) -> list[str]:
        """The products that a contract file is there for, readable or not. Raises StateUnusable."""
        directory = self._paths.contracts
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise refused(f"{directory} cannot be listed", error) from error
        return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))

    def get(self, product: str) -> Contract:
        """The contract registered for `product`. Raises NotRegistered, saying what to do."""
        file = self._paths.contracts / f"{product}.toml"
        try:
            contract = self._read(file)
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
        return contract

    def add(self, contract: Contract) -> None:
        """Register `contract`, in place of an earlier one of its product. Raises StateUnusable."""
        replace_file(self._paths.contracts / f"{contract.product}.toml", contract.text)

    def agreement(self, product: str) -> Agreement:
        """The contract in force for `product`."""
        try:
            return Agreement(self._read(self._paths.agreed(product)))
        except FileNotFoundError:
            return Agreement(None)
        except (OSError, ContractError):
            return Agreement(None, is_damaged=True)

    def agree(self, contract: Contract) -> None:
        """From now on `contract` is in force. Raises StateUnusable."""
        replace_file(self._paths.agreed(contract.product), contract.text)

    def forget_agreement(self, product: str) -> None:
        """No contract is in force any more: consent is off. Safe to repeat."""
        with suppress(OSError):
            self._paths.agreed(product).unlink(missing_ok=True)

    def _read(self, file: Path) -> Contract:
        """The contract in `file`. Raises OSError and ContractError."""
        about = file.stat()
        stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
        known = self._parsed.get(file)
        if known is not None and known[0] == stamp:
            return known[1]
        with file.open("rb") as opened:
            text = opened.read(CONTRACT_MAX_BYTES + 1)
        # Most often the one in force is the registered one, word for word: parsed once.
        same = next((one for _, one in self._parsed.values() if one.text == text), None)
        contract = same or parse_contract(text, str(file))
        self._parsed[file] = (stamp, contract)
        return contract
