"""Policy files: what an administrator, or the user in one move, forbids.

It owns `config/policy.toml`, which `tallyd off --all` writes, and reads the machine's
(`/etc/tallyd/policy.toml`) and one more that TALLYD_POLICY_FILE may name. Each holds `off = true` or
`off = ["codegraph"]`, and may except products: `except = ["ktx"]`. They may only forbid. A file that
cannot be read or understood forbids everything. Hosts read the same files by the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyd import flat_toml
from tallyd.files import read_regular, replace_file
from tallyd.limits import STATE_FILE_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tallyd.paths import Paths

_HEAD = '# Written by "tallyd off --all" and "tallyd on"; `off` may be a list of products too.\n'


@dataclass(frozen=True, slots=True)
class Bans:
    """The rules that forbid a product: by somebody's wish, and because a file cannot be understood."""

    wishes: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def bans_on(product: str, paths: Paths, environ: Mapping[str, str]) -> Bans:
    """Every policy file that says off for this product."""
    wishes, damaged = [], []
    for rule, file in paths.policies(environ):
        try:
            if not file.is_absolute():
                raise ValueError("is not absolute")
            off, excepted = _read(file)
        except ValueError as problem:
            damaged.append(f"{rule} ({file} {problem})")
            continue
        if (off is True or (isinstance(off, list) and product in off)) and product not in excepted:
            wishes.append(rule)
    return Bans(tuple(wishes), tuple(damaged))


def forbid_all(paths: Paths) -> None:
    """Forbid every product of this user, those still to come too. Raises StateUnusable."""
    replace_file(paths.user_policy, f"{_HEAD}off = true\n".encode())


def permit_all(paths: Paths) -> None:
    """Take back `forbid_all`. Safe to repeat."""
    paths.user_policy.unlink(missing_ok=True)


def permit(product: str, paths: Paths) -> None:
    """Except one product from the user's own policy, if it is forbidden there. Raises StateUnusable."""
    try:
        off, excepted = _read(paths.user_policy)
    except ValueError:
        # A file that cannot be understood is its author's to mend; `status` names it.
        return
    if off is True:
        names = _list([*excepted, product] if product not in excepted else excepted)
        text = f"{_HEAD}off = true\nexcept = {names}\n"
    elif isinstance(off, list) and product in off:
        text = f"{_HEAD}off = {_list(one for one in off if one != product)}\n"
    else:
        return
    replace_file(paths.user_policy, text.encode())


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in names) + "]"


def _read(file: Path) -> tuple[bool | list[str], list[str]]:
    """(off, except) of one file; (False, []) when there is none. Raises ValueError in words."""
    try:
        # An administrator's tools may make it a link.
        content = read_regular(file, STATE_FILE_MAX_BYTES, may_be_link=True)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if content is None and file.is_symlink():
        raise ValueError("is a link to nothing")
    if content is None:
        return False, []
    values = flat_toml.read(content.decode("utf-8-sig"))
    off, excepted = values.get("off", False), values.get("except", [])
    if not isinstance(off, bool) and not _is_names(off):
        raise ValueError("off: is neither true nor a list of products")
    if not _is_names(excepted):
        raise ValueError("except: is not a list of products")
    return off, excepted  # type: ignore[return-value]  # checked just above


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
