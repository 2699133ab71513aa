"""Policy files: what an administrator, or the user in one move, forbids.

It owns `config/policy.toml`, which `tallyd off --all` writes, and reads the machine's
(`/etc/tallyd/policy.toml`) and one more that TALLYD_POLICY_FILE may name. Each holds `off = true` or
`off = ["codegraph"]`; beside `off = true`, `except = ["ktx"]`. They may only forbid. A file that
cannot be read, or holds anything else, forbids everything. Hosts read the same files by the same rules.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd import flat_toml
from tallyd.contract.frozen import Frozen
from tallyd.files import keep_beside, read_regular, replace_file
from tallyd.limits import STATE_FILE_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tallyd.paths import Paths

_HEAD = '# Written by "tallyd off --all" and "tallyd on"; `off` may be a list of products too.\n'


class Bans(Frozen):
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
            said = _read(file)
        except ValueError as problem:
            damaged.append(f"{rule} ({file} {problem})")
            continue
        if said.forbids(product):
            wishes.append(rule)
    return Bans(tuple(wishes), tuple(damaged))


def all_forbidden_by(paths: Paths, environ: Mapping[str, str]) -> str:
    """The rule by which nothing may ever be on, by somebody's wish; "" when something may."""
    for rule, file in paths.policies(environ):
        with suppress(ValueError):
            said = _read(file)
            if said.is_all and not said.excepted:
                return rule
    return ""


def standing(paths: Paths, environ: Mapping[str, str]) -> list[dict[str, object]]:
    """What each policy file forbids, as `status --json` prints it; of those that forbid something."""
    found: list[dict[str, object]] = []
    for rule, file in paths.policies(environ):
        try:
            said = _read(file)
        except ValueError:
            found.append({"rule": rule, "all": True, "except": [], "products": []})
            continue
        if said.is_all or said.off:
            excepted = sorted(said.excepted) if said.is_all else []
            found.append(
                {
                    "rule": rule,
                    "all": said.is_all,
                    "except": excepted,
                    "products": sorted(said.off),
                }
            )
    return found


def forbid_all(paths: Paths) -> None:
    """Forbid every product of this user, those still to come too. Raises StateUnusable."""
    _write(paths, _said_or_nothing(paths), _Said(is_all=True))


def forbid(product: str, paths: Paths) -> None:
    """Forbid one product by name, also one that is not registered. Raises StateUnusable."""
    if _is_damaged(paths):
        # It forbids everything as it stands; a list of one would let all others count again.
        return
    said = _said_or_nothing(paths)
    if said.forbids(product):
        return
    excepted = tuple(one for one in said.excepted if one != product)
    off = said.off if said.is_all else (*said.off, product)
    _write(paths, said, _Said(said.is_all, off, excepted))


def permit_all(paths: Paths) -> None:
    """Take back `forbid_all`; products that are forbidden by name stay so. Raises StateUnusable."""
    said = _said_or_nothing(paths)
    if said.is_all:
        _write(paths, said, _Said())


def permit(product: str, paths: Paths) -> None:
    """Except one product from the user's own policy, if it is forbidden there. Raises StateUnusable."""
    said = _said_or_nothing(paths)
    if not said.forbids(product):
        return
    off = tuple(one for one in said.off if one != product)
    excepted = (*said.excepted, product) if said.is_all else said.excepted
    _write(paths, said, _Said(said.is_all, off, excepted))


class _Said(Frozen):
    """What a policy file says: off to all, or to these; all but those excepted. `text` is its text."""

    is_all: bool = False
    off: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    text: str = ""

    def forbids(self, product: str) -> bool:
        return product in self.off or (self.is_all and product not in self.excepted)


def _is_damaged(paths: Paths) -> bool:
    try:
        _read(paths.user_policy)
    except ValueError:
        return True
    return False


def _said_or_nothing(paths: Paths) -> _Said:
    """The user's own policy; one that nobody understands is replaced, and kept beside."""
    try:
        return _read(paths.user_policy)
    except ValueError:
        keep_beside(paths.user_policy, ".damaged")
        return _Said()


def _write(paths: Paths, before: _Said, now: _Said) -> None:
    """Put `now` in the place of `before`, and keep the comments; without either there is no file."""
    text = flat_toml.replace(before.text, {"off": None, "except": None})
    if not (now.is_all or now.off) and not text.strip().replace(_HEAD.strip(), ""):
        paths.user_policy.unlink(missing_ok=True)
        return
    if text and not text.endswith("\n"):
        text += "\n"
    text = text if before.text else _HEAD
    text += f"off = {'true' if now.is_all else _list(now.off)}\n"
    text += f"except = {_list(now.excepted)}\n" if now.excepted else ""
    replace_file(paths.user_policy, text.encode())


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in names) + "]"


def _read(file: Path) -> _Said:
    """What one file says; nothing when there is none. Raises ValueError in words."""
    try:
        # An administrator's tools may make it a link.
        content = read_regular(file, STATE_FILE_MAX_BYTES, may_be_link=True)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if content is None and file.is_symlink():
        raise ValueError("is a link to nothing")
    if content is None:
        return _Said()
    text = content.decode("utf-8-sig")
    values = flat_toml.read(text)
    # A word that nobody knows may be a slip of the pen: `of = true` was meant to forbid.
    for name in values:
        if name not in ("off", "except"):
            raise ValueError(f"{name}: is not known here (known: off, except)")
    if any(line.lstrip().startswith("[") for line in text.splitlines()):
        raise ValueError("has a table; write `off` at the top")
    off, excepted = values.get("off", False), values.get("except", [])
    if not isinstance(off, bool) and not _is_names(off):
        raise ValueError("off: is neither true nor a list of products")
    if not _is_names(excepted):
        raise ValueError("except: is not a list of products")
    names = tuple(off) if isinstance(off, list) else ()
    return _Said(off is True, names, tuple(excepted), text)  # type: ignore[arg-type]  # names, as checked


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
