"""The readers of policy files, the daemon's and the stub's: what nobody understands forbids, to both alike."""

from __future__ import annotations

import tomllib

from support.flat_files import BOM
from tallyd import policy
from tallyd.flat_toml import read
from tallyd.paths import Paths
from tallyd_client._forbidden import forbids

from fuzz.scratch import home, living_in, put

_PRODUCTS = ("tool", "codegraph", "ktx-v1")


def one_input(data: bytes) -> None:
    """Both forbid the same products; nothing but plain words permits; and a wish can always be written."""
    with living_in(home("policy")) as environ:
        paths = Paths.locate(environ)
        file = put(paths.user_policy, data)
        plain = _plainly(data)
        for product in _PRODUCTS:
            bans = policy.bans_on(product, paths, environ)
            is_forbidden = bool(bans.wishes or bans.damaged)
            assert is_forbidden == forbids(str(file), product)
            assert plain is None or is_forbidden == plain[product]
            assert plain is not None or is_forbidden, "what TOML itself refuses permits nothing"
        policy.forbid("tool", paths)
        bans = policy.bans_on("tool", paths, environ)
        if bans.damaged:
            # It forbids everything, and a list of one in its place would not.
            assert file.read_bytes() == data
        else:
            assert bans.wishes
            policy.permit("tool", paths)
            assert policy.bans_on("tool", paths, environ) == policy.Bans()
        put(file, data)
        policy.forbid_all(paths)
        assert all(forbids(str(file), product) for product in _PRODUCTS)
        for kept in file.parent.glob("policy.toml.damaged*"):
            kept.unlink()


def _plainly(data: bytes) -> dict[str, bool] | None:
    """What the file says of each product by tomllib; None where it says nothing that counts.

    Two byte order marks are read over where TOML refuses the second: neither says anything.
    """
    try:
        text = data.decode("utf-8-sig")
        values = tomllib.loads(text.removeprefix(BOM))
        # TOML has more ways to write the same than flat TOML takes: those forbid.
        read(text)
    except (ValueError, RecursionError):
        return None
    off, excepted = values.get("off", False), values.get("except", [])
    lists = [excepted] if isinstance(off, bool) else [excepted, off]
    are_names = all(
        isinstance(one, list) and all(isinstance(name, str) for name in one) for one in lists
    )
    if not are_names or set(values) - {"off", "except"}:
        return None
    if isinstance(off, bool):
        return {product: off and product not in excepted for product in _PRODUCTS}
    return {product: product in off for product in _PRODUCTS}
