"""Policy files: what an administrator, a user or whoever starts a host says about every product.

It owns their reading: flat TOML, `off = true` or `off = ["a product"]`, and `except = ["another"]`
beside `off = true`. It guarantees that what cannot be read or understood means off, and that no
such file can switch anything on. A link is fine here: configuration is often linked into place.
Loaded when there is such a file.
"""

from tallyd_client._state import read_content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def forbids(file: str, product: str) -> bool:
    """Whether this policy file switches the product off."""
    try:
        from tallyd_client._flat_toml import read

        content = read_content(file, follows_links=True)
        if content is None:
            return True
        text = content.decode("utf-8")
        text = text[1:] if text[:1] == "\ufeff" else text
        said = read(text)
        # A word that nobody knows may be a slip of the pen: `of = true` was meant to forbid.
        if set(said) - {"off", "except"} or has_table(text):
            return True
        excepted = _names(said.get("except", []))
        off = said.get("off", False)
        if isinstance(off, bool):
            return off and product not in excepted
        return product in _names(off)
    except Exception:
        return True


def has_table(text: str) -> bool:
    """Whether a flat file that can be read has a table, whose keys `read` passes over."""
    return any(line.lstrip()[:1] == "[" for line in text.splitlines())


def _names(value: "Any") -> "list[str]":
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("not a list of names")
    return value
