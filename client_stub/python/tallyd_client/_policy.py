"""What the contract lets this process record, and whether its user agrees.

It owns the stub's half of the contract: the consent rules, the envelope, and the screening of names
and values. It reads the contract's own TOML tables, as tomllib gives them or as the built constants
hold them. Errors in here mean: record nothing. The daemon and the gateway screen again.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._cells import Source

_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-")
_LABEL = _TOKEN | frozenset("/@() ")
_TEXT_TYPES = {"token": (_TOKEN, 64), "version": (_TOKEN, 32), "label": (_LABEL, 64)}
_MAX_INTEGER = 2**53 - 1
_FALSE_WORDS = ("", "0", "false")
_STATE_MAX_BYTES = 64 * 1024
_STATE_KEYS = {"enabled": "enabled", "source": "consent_source", "updated": "updated_at"}
_ARCHES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "i686": "ia32", "i386": "ia32"}


class Screened:
    """What may be dropped, as JSON: `counts` and `events` ready-made, `lost` by cause."""

    __slots__ = ("counts", "events", "lost")

    def __init__(self) -> None:
        self.counts: "list[tuple[str, dict[str, Any], dict[str, int]]]" = []
        self.events: "list[tuple[str, float, dict[str, Any]]]" = []
        self.lost: "dict[str, int]" = {}

    def lose(self, cause: str, count: int) -> None:
        """Count what could not be recorded."""
        self.lost[cause] = self.lost.get(cause, 0) + count


class Policy:
    """One product's contract as this process sees it. Raises when there is none to go by."""

    def __init__(
        self,
        product: "str | None",
        version: str,
        contract: "str | os.PathLike[str] | dict[str, Any] | None",
        envelope: "dict[str, Any]",
    ) -> None:
        self.config_dir, self.state_dir = directories(os.environ)
        if contract is None:
            contract = os.path.join(self.config_dir, "contracts", "%s.toml" % product)
        tables = contract if isinstance(contract, dict) else _load(contract)
        self.product: str = tables["product"]["name"]
        if product not in (None, self.product):
            raise ValueError("the contract is that of %r, not of %r" % (self.product, product))
        self.digest: str = tables["digest"][:16]
        self.text: bytes = tables["text"].encode("utf-8")
        self._events: "dict[str, Any]" = tables["events"]
        self._consent: "dict[str, Any]" = tables["consent"]
        self._details: str = tables["product"].get("details", "")
        self._state = tables.get("state")
        self.envelope = self._fill(tables.get("envelope", {}), version, envelope)

    @property
    def notice(self) -> str:
        """The one line to show before anything leaves."""
        off: str = self._consent.get("off_command", "DO_NOT_TRACK=1")
        said = str(self._consent["notice"])
        return said.replace("{off_command}", off).replace("{details}", self._details)

    def consent_since(self) -> "str | None":
        """None when off; when on, the instant of the explicit choice ("" when nobody chose)."""
        rules, environ = self._consent, os.environ
        if _do_not_track(rules.get("do_not_track", "set"), environ.get("DO_NOT_TRACK", "")):
            return None
        for switch in rules.get("env", ()):
            value = environ.get(switch["name"], "").strip().lower()
            if value:
                # Unknown text never enables: whoever writes TELEMETRY=disabled means it.
                return "" if value in [one.lower() for one in switch.get("on", ())] else None
        if rules.get("ci", "tag") == "off" and _is_ci(environ):
            return None
        stored = self._stored()
        if stored is not None:
            is_on, since = stored
            return since if is_on else None
        return "" if rules.get("default", "off") == "on" else None

    def screen(
        self,
        moved: "list[tuple[Source, list[tuple[Any, int, int]]]]",
        events: "list[tuple[str, float, dict[str, Any]]]",
    ) -> Screened:
        """What the contract lists of these counts and events; the rest is lost as an error."""
        screened = Screened()
        for source, fresh in moved:
            listed = self._events.get(source.event, {})
            for (ok, values), _, count in fresh:
                given = dict(zip(source.names, values))
                kept = _fields(listed.get("dimensions", {}), given)
                if listed.get("kind") != "rollup" or kept is None:
                    screened.lose("error", count)
                    continue
                measures = dict.fromkeys(listed["measures"], 0)
                measures[listed["measures"][0]] = count
                if not ok and len(measures) > 1:
                    measures[listed["measures"][1]] = count
                screened.counts.append((source.event, kept, measures))
        for name, at, properties in events:
            listed = self._events.get(name, {})
            kept = _fields(listed.get("properties", {}), properties)
            if listed.get("kind") != "event" or kept is None:
                screened.lose("error", 1)
            else:
                screened.events.append((name, at, kept))
        return screened

    def _stored(self) -> "tuple[bool, str] | None":
        """(choice, since) of the state file; None when nobody chose. Damage reads as off."""
        keys = dict(_STATE_KEYS, **(self._state or {}).get("keys", {}))
        try:
            values = _read_object(self._state_file())
        except Exception:
            return False, ""
        if values is None:
            return None
        enabled = values.get(keys["enabled"])
        if enabled is False:
            return False, ""
        if enabled is not None and enabled is not True:
            return False, ""
        default_source = (self._state or {}).get("default_source", "default-notice")
        if enabled is None or values.get(keys["source"]) == default_source:
            return None
        since = values.get(keys["updated"])
        return True, since if isinstance(since, str) else ""

    def _state_file(self) -> str:
        if self._state is None:
            return os.path.join(self.state_dir, "consent", "%s.json" % self.product)
        return os.path.expanduser(str(self._state["file"]))

    def _fill(
        self, listed: "dict[str, Any]", version: str, given: "dict[str, Any]"
    ) -> "dict[str, Any]":
        facts: "dict[str, Any]" = {}
        for name, spec in listed.items():
            origin = spec.get("from", "host")
            if origin == "version":
                facts[name] = version
            elif origin.startswith("runtime"):
                facts[name] = _runtime_fact(name if origin == "runtime" else origin[8:])
            elif name in given:
                facts[name] = given[name]
        cleaned = {name: _clean(listed[name], value) for name, value in facts.items()}
        return {name: value for name, value in cleaned.items() if value is not None}


def directories(environ: "Any") -> "tuple[str, str]":
    """(configuration, state) directories, by the rule of docs/spool.md."""
    home = environ.get("TALLYD_HOME", "")
    if os.path.isabs(home):
        return os.path.join(home, "config"), os.path.join(home, "state")
    found = []
    for name, default in (("XDG_CONFIG_HOME", ".config"), ("XDG_STATE_HOME", ".local/state")):
        base = environ.get(name, "")
        if not os.path.isabs(base):
            base = os.path.join(os.path.expanduser("~"), *default.split("/"))
        if not os.path.isabs(base):
            raise ValueError("there is no home directory")
        found.append(os.path.join(base, "tallyd"))
    return found[0], found[1]


def _load(file: "str | os.PathLike[str]") -> "dict[str, Any]":
    """The tables of a contract file, with its text and digest. Costs 12 ms: build the contract."""
    import hashlib

    import tomllib

    with open(file, "rb") as opened:
        content = opened.read()
    text = content.decode("utf-8")
    return dict(tomllib.loads(text), digest=hashlib.sha256(content).hexdigest(), text=text)


def _do_not_track(rule: str, value: str) -> bool:
    if rule == "ignore":
        return False
    return bool(value) if rule == "any" else value.strip().lower() not in _FALSE_WORDS


def _is_ci(environ: "Any") -> bool:
    return environ.get("CI", "").strip().lower() not in _FALSE_WORDS


def _read_object(file: str) -> "dict[str, Any] | None":
    """The JSON object in `file`; None when there is no file. Raises on anything else."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(file, flags)
    except FileNotFoundError:
        return None
    try:
        content = os.read(descriptor, _STATE_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _STATE_MAX_BYTES:
        raise ValueError("too large")
    values = read_json(content.decode("utf-8"))
    if not isinstance(values, dict):
        raise TypeError("not an object")
    return values


class _Scanning:
    """What json.JSONDecoder tells its scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def read_json(text: str) -> "Any":
    """The value in `text`. Raises on anything else, and on what stands behind it."""
    try:
        # The scanner that `json` is made of, without the 8 ms of importing it.
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)

    text = text.strip()
    value, end = make_scanner(_Scanning())(text, 0)  # type: ignore[arg-type]  # any object will do
    if end != len(text):
        raise ValueError("more than one value")
    return value


def _runtime_fact(name: str) -> "Any":
    if name == "os":
        return sys.platform
    if name == "arch":
        # os.uname, not platform.machine: importing platform costs 3 ms.
        machine = os.uname().machine if hasattr(os, "uname") else ""
        machine = (machine or os.environ.get("PROCESSOR_ARCHITECTURE", "")).lower()
        return _ARCHES.get(machine, machine)
    return {
        "ci": _is_ci(os.environ),
        "runtime": "python",
        "runtime_version": "%d.%d.%d" % sys.version_info[:3],
        "runtime_major": sys.version_info[0],
    }.get(name)


def _fields(listed: "dict[str, Any]", given: "dict[str, Any]") -> "dict[str, Any] | None":
    """The listed fields of `given`, cleaned; None when a required one is missing or bad."""
    kept = {}
    for name, spec in listed.items():
        value = _clean(spec, given[name]) if name in given else None
        if value is not None:
            kept[name] = value
        elif not spec.get("optional"):
            return None
    return kept


def _clean(spec: "dict[str, Any]", value: "Any") -> "Any":
    """`value` as the contract lets it be recorded; None when it does not."""
    kind = spec["type"]
    if kind in _TEXT_TYPES:
        alphabet, longest = _TEXT_TYPES[kind]
        if not isinstance(value, str):
            return None
        # Names that others choose are cut to their alphabet and length.
        return (
            "".join([one for one in value if one in alphabet])[: spec.get("max", longest)] or None
        )
    if kind == "enum":
        return value if isinstance(value, str) and value in spec["values"] else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "list":
        of = dict(spec, type=spec.get("of", "token"))
        if not isinstance(value, (list, tuple)):
            return None
        good = [one for one in [_clean(of, item) for item in value] if one is not None]
        return good[: spec["max_items"]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value if kind == "bucket" and value in spec["labels"] else None
    if kind == "bucket":
        # The number stays here; only its bucket's name goes on. Lower edges are inclusive.
        return spec["labels"][sum(1 for edge in spec["edges"] if value >= edge)]
    if kind == "int" and isinstance(value, int):
        within = spec.get("min", 0) <= value <= spec.get("max", _MAX_INTEGER)
        return value if within else None
    return None
