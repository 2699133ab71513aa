"""A contract's own TOML as the constants that `tallyd contract build` makes of it.

It owns that form in this package; a test compares both for every contract. It does not check the
grammar: `tallyd contract check` does, and what is odd here is not recorded. It costs 12 ms and needs
Python 3.11, so a product builds its contract once instead. Loaded when a path is given.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_INTEGER = 2**53 - 1
# What a field of each type has when it does not say so.
_DEFAULTS: "dict[str, dict[str, Any]]" = {
    "token": {"max": 64, "cut": False, "registered": False},
    "label": {"max": 64, "cut": False, "registered": False},
    "version": {"max": 32, "cut": False, "registered": False},
    "int": {"min": 0, "max": _MAX_INTEGER},
    "number": {"min": 0, "max": _MAX_INTEGER},
    "hash": {"length": 64},
    "error_class": {"max": 80},
    "redacted": {"max": 1000},
    "names": {"max_items": 32},
    "list": {"of": "token"},
}
_STATE_KEYS = (
    *("enabled", "mode", "id", "user", "source", "notice", "notice_at", "notice_version"),
    *("created", "updated"),
)


def load(file: "str | os.PathLike[str]") -> "dict[str, Any]":
    """The constants of a contract file. Raises when it is none."""
    import tomllib  # noqa: F401 - without it no file need be read

    # A number would be the host's own descriptor, closed by us.
    with open(os.fspath(file), "rb") as opened:
        return constants_of(opened.read())


def constants_of(content: bytes) -> "dict[str, Any]":
    """The constants of a contract's text. Raises when it is none."""
    import tomllib

    from tallyd_client._identity import sha256_of

    text = content.decode("utf-8")
    said = tomllib.loads(text)
    product, consent, identity = said["product"], said["consent"], said.get("identity", {})
    return {
        "product": {"name": product["name"], "details": product["details"]},
        "digest": sha256_of(content),
        "text": text,
        "schema_version": product.get("schema_version", 1),
        "consent": {
            "default": consent.get("default", "off"),
            "do_not_track": consent.get("do_not_track", "set"),
            "env": [_switch(one) for one in consent.get("env", ())],
            "ci": consent.get("ci", "tag"),
            "terminal": consent.get("terminal", "any"),
            "modes": consent.get("modes", []),
            "notice": consent["notice"],
            "notice_when": consent.get("notice_when", "first-use"),
            "off_command": consent.get("off_command", "DO_NOT_TRACK=1"),
        },
        "state": _state(said["state"]) if "state" in said else None,
        "identity": {
            "kind": identity.get("kind", "random"),
            "prefix": identity.get("prefix", ""),
            "fallback_prefix": identity.get("fallback_prefix", ""),
            "length": identity.get("length", 0),
            "project": "project" in identity,
        },
        "envelope": {name: _enveloped(name, one) for name, one in said.get("envelope", {}).items()},
        "events": {name: _event(one, said) for name, one in said["events"].items()},
    }


def _switch(said: "dict[str, Any]") -> "dict[str, Any]":
    words = {key: sorted({one.strip().lower() for one in said.get(key, ())}) for key in _WORDS}
    return dict(words, name=said["name"])


_WORDS = ("off", "on")


def _state(said: "dict[str, Any]") -> "dict[str, Any]":
    return {
        "file": said["file"],
        "format": said.get("format", "json"),
        "strict": said.get("strict", False),
        "keys": {key: said["keys"][key] for key in _STATE_KEYS if key in said["keys"]},
        "default_source": said.get("default_source", "default-notice"),
    }


def _enveloped(name: str, said: "dict[str, Any]") -> "dict[str, Any]":
    origin = said.get("from", "host")
    spec = _field(said)
    spec.pop("optional", None)
    return dict(spec, **{"from": "runtime.%s" % name if origin == "runtime" else origin})


def _event(event: "dict[str, Any]", said: "dict[str, Any]") -> "dict[str, Any]":
    """One event with every field it may carry."""
    own = "dimensions" if event["kind"] == "rollup" else "properties"
    fields = {one: dict(said["groups"][one], optional=True) for one in event.get("groups", ())}
    fields.update({one: said["fields"][one] for one in event.get("uses", ())})
    fields.update(event.get(own, {}))
    made: "dict[str, Any]" = {"kind": event["kind"]}
    if "sample" in event:
        made["sample"], made["sample_as"] = event["sample"], event.get("sample_as", "sample_rate")
        fields[made["sample_as"]] = {"type": "number", "max": 1}
    if event["kind"] == "rollup":
        made["measures"] = [
            one if isinstance(one, str) else one["name"] for one in event["measures"]
        ]
    made.update({key: event[key] for key in ("expires", "once") if event.get(key)})
    made[own] = {name: _field(spec) for name, spec in fields.items()}
    return made


def _field(said: "dict[str, Any]") -> "dict[str, Any]":
    """A field without what it means the same without."""
    kind = said["type"]
    default = dict(_DEFAULTS.get(kind, {}), optional=False, expires="")
    if kind == "list" and said.get("of", "token") != "record":
        default.update(_DEFAULTS.get(said.get("of", "token"), {}))
    if kind == "names" and "values" not in said:
        default.update(_DEFAULTS["token"])
    spec = {
        key: value
        for key, value in said.items()
        if key not in ("about", "as") and not (key in default and default[key] == value)
    }
    if "fields" in spec:
        spec["fields"] = {name: _field(one) for name, one in spec["fields"].items()}
    return spec
