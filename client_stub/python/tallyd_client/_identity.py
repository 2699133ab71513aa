"""Who counts are from, where this process has to say so: a derived id, a random one, a project's hash.

It owns the hashing of what a host knows about itself, and the minting of ids. It guarantees that no
raw value reaches the disk or a delta, and that of processes that mint at once all have one id.
Loaded when a contract derives its id, or a host asks for a project's hash.
"""

import os

from tallyd_client import _drop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._policy import Policy

_HEX = frozenset("0123456789abcdef")


def ensure_own_id(policy: "Policy") -> None:
    """See that a product with derived ids has its own. Raises OSError when none can be kept."""
    rules, value = policy.identity, policy.identity_value
    if value:
        policy.own_id = rules["prefix"] + _digest(value)[: rules["length"]]
        policy.identity_value, policy.is_derived = None, True
    elif not policy.is_derived:
        # Read each time: whoever switched off and on again has another one.
        policy.own_id = _kept_id(policy, rules["fallback_prefix"], rules["length"])


def project(policy: "Policy", path: "str | os.PathLike[str]") -> "str | None":
    """SHA-256 of `<id>:<absolute path>`, in hex. None when off, or not in the contract.

    Raises OSError when there is no id and none can be written down.
    """
    if not policy.identity.get("project", False):
        return None
    consent = policy.consent()
    if not consent.is_on:
        return None
    mine = consent.id
    kind = policy.identity.get("kind", "random")
    if kind == "derived":
        ensure_own_id(policy)
        mine = policy.own_id
    elif kind == "random" and mine is None:
        from tallyd_client import _storing

        mine = _storing.mint(policy)
    # Made absolute and nothing more: links stay as the user has them, no separator at the end.
    place = os.fsdecode(os.path.abspath(path))
    return _digest("%s:%s" % (mine, place)) if mine else None


def sha256_of(content: bytes) -> str:
    """The SHA-256 of it, in hex."""
    # The C modules under `hashlib`, which costs more than all of this package.
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and newer
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found]  # up to 3.11
        except ImportError:
            from hashlib import sha256
    return str(sha256(content).hexdigest())


def _digest(text: str) -> str:
    return sha256_of(text.encode("utf-8", "surrogateescape"))


def _kept_id(policy: "Policy", prefix: str, length: int) -> str:
    """The random id that this machine keeps for a product, made when there is none."""
    from tallyd_client import _state, _storing

    file = os.path.join(policy.state_dir, "identity", policy.product)
    for _ in range(3):
        content: "Any" = None
        try:
            content = _state.read_content(file)
        except ValueError:
            content = b""
        if content is None:
            made = prefix + os.urandom(32).hex()[:length]
            if _storing.create(file, ("%s\n" % made).encode("ascii")):
                return made
            continue
        said: str = content.decode("ascii", "replace").strip()
        digits = said[len(prefix) :]
        if said.startswith(prefix) and len(digits) == length and _HEX.issuperset(digits):
            return said
        # A file of ours that a power cut emptied: without it a new one can be made.
        _drop.remove(file)
    raise OSError("no id can be kept")
