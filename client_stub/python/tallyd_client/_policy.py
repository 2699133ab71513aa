"""What the contract lets this process record, and whether its user agrees.

It owns the stub's half of the contract: the consent rules, the envelope, and the screening of names
and values. It reads the contract's own TOML tables, as tomllib gives them or as the built constants
hold them. Errors in here mean: record nothing. The daemon and the gateway screen again.
"""

import os
import sys

from tallyd_client._drop import instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._cells import Key, Moved, Source

_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-")
_PRODUCT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LABEL = _TOKEN | frozenset("/@() ")
_TEXT_TYPES = {"token": (_TOKEN, 64), "version": (_TOKEN, 32), "label": (_LABEL, 64)}
_MAX_INTEGER = 2**53 - 1
_FALSE_WORDS = ("", "0", "false")
_ARCHES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "i686": "ia32", "i386": "ia32"}


class Screened:
    """What may be dropped: `counts` and `events` as the entries of a delta, and `lost` by cause.

    Each entry stands between its place among what was screened and how much is lost with it.
    """

    __slots__ = ("counts", "events", "lost")

    def __init__(self) -> None:
        self.counts: "list[tuple[int, list[Any], int]]" = []
        self.events: "list[tuple[int, list[Any], int]]" = []
        self.lost: "dict[str, int]" = {}

    def __bool__(self) -> bool:
        return bool(self.counts or self.events or any(self.lost.values()))

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
        if not 0 < len(self.product) <= 32 or not _PRODUCT.issuperset(self.product):
            raise ValueError("%r is no product's name" % (self.product,))
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

    def consent_since(self) -> "float | None":
        """None when off; when on, the Unix time of the explicit choice (0 when nobody chose)."""
        rules, environ = self._consent, os.environ
        if _do_not_track(rules.get("do_not_track", "set"), environ.get("DO_NOT_TRACK", "")):
            return None
        for switch in rules.get("env", ()):
            value = environ.get(switch["name"], "").strip().lower()
            if value:
                # Unknown text never enables: whoever writes TELEMETRY=disabled means it.
                return 0.0 if value in [one.lower() for one in switch.get("on", ())] else None
        if rules.get("ci", "tag") == "off" and _is_ci(environ):
            return None
        stored = self._stored()
        if stored is not None:
            is_on, since = stored
            return since if is_on else None
        return 0.0 if rules.get("default", "off") == "on" else None

    def screen(
        self,
        moved: "list[Moved]",
        events: "list[tuple[str, float, dict[str, Any]]]",
    ) -> Screened:
        """What the contract lists of these counts and events; the rest is lost as an error."""
        screened = Screened()
        for place, one in enumerate(moved):
            counted = self._count(*one)
            if counted is not None:
                screened.counts.append((place, counted, one[3]))
            else:
                screened.lose("error", one[3])
        for place, (name, at, properties) in enumerate(events):
            told = self._event(name, at, properties)
            if told is not None:
                screened.events.append((place, told, 1))
            else:
                screened.lose("error", 1)
        return screened

    def _count(self, source: "Source", key: "Key", _: int, count: int) -> "list[Any] | None":
        """One entry of a delta's counts; None for what is not listed, and for whatever is odd."""
        try:
            ok, values = key
            listed = self._listed(source.event, "rollup")
            kept = _fields(listed.get("dimensions", {}), dict(zip(source.names, values)))
            measures = dict.fromkeys(listed["measures"], 0)
            measures[listed["measures"][0]] = count
            if not ok and len(measures) > 1:
                measures[listed["measures"][1]] = count
            return [source.event, kept, measures]
        except Exception:
            return None

    def _event(self, name: str, at: float, properties: "dict[str, Any]") -> "list[Any] | None":
        """One entry of a delta's events; None as for counts."""
        try:
            kept = _fields(self._listed(name, "event").get("properties", {}), properties)
            return [name, instant(at), kept]
        except Exception:
            return None

    def _listed(self, event: str, kind: str) -> "dict[str, Any]":
        listed: "dict[str, Any]" = self._events[event]
        if listed["kind"] != kind:
            raise ValueError("%s is no %s" % (event, kind))
        return listed

    def _stored(self) -> "tuple[bool, float] | None":
        """(choice, since) of the state file; None when nobody chose. Damage reads as off."""
        file = self._state_file()
        try:
            os.lstat(file)
        except FileNotFoundError:
            return None
        except OSError:
            return False, 0.0
        # Only where there is a file is the reading of one worth its import.
        from tallyd_client._state import stored_choice

        return stored_choice(file, self._state or {})

    def _state_file(self) -> str:
        if self._state is None:
            return os.path.join(self.state_dir, "consent", "%s.json" % self.product)
        file = str(self._state["file"])
        return os.path.join(_home(os.environ), file[2:]) if file.startswith("~/") else file

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
            base = os.path.join(_home(environ), *default.split("/"))
        found.append(os.path.join(base, "tallyd"))
    return found[0], found[1]


def _home(environ: "Any") -> str:
    home: str = environ.get("HOME" if os.name != "nt" else "USERPROFILE", "")
    home = home or os.path.expanduser("~")
    if not os.path.isabs(home):
        raise ValueError("there is no home directory")
    return home


def _load(file: "str | os.PathLike[str]") -> "dict[str, Any]":
    """The tables of a contract file, with its text and digest. Costs 12 ms: build the contract."""
    import hashlib

    import tomllib

    # A number would be the host's own descriptor, closed by us.
    with open(os.fspath(file), "rb") as opened:
        content = opened.read()
    text = content.decode("utf-8")
    return dict(tomllib.loads(text), digest=hashlib.sha256(content).hexdigest(), text=text)


def _do_not_track(rule: str, value: str) -> bool:
    if rule == "ignore":
        return False
    return bool(value) if rule == "any" else value.strip().lower() not in _FALSE_WORDS


def _is_ci(environ: "Any") -> bool:
    return environ.get("CI", "").strip().lower() not in _FALSE_WORDS


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


def _fields(listed: "dict[str, Any]", given: "dict[str, Any]") -> "dict[str, Any]":
    """The listed fields of `given`, cleaned. Raises when a required one is missing or bad."""
    kept = {}
    for name, spec in listed.items():
        value = _clean(spec, given[name]) if name in given else None
        if value is not None:
            kept[name] = value
        elif not spec.get("optional"):
            raise ValueError("%s is missing or not as listed" % name)
    return kept


def _clean(spec: "dict[str, Any]", value: "Any") -> "Any":
    """`value` as the contract lets it be recorded, of a plain type; None when it does not."""
    kind = spec["type"]
    if kind in _TEXT_TYPES:
        alphabet, longest = _TEXT_TYPES[kind]
        longest = spec.get("max", longest)
        if not isinstance(value, str):
            return None
        if not spec.get("cut"):
            good = len(value) <= longest and alphabet.issuperset(value)
            return "".join(value) or None if good else None
        # Names that others choose are cut to their alphabet and length; of a name of megabytes
        # nobody waits for the end.
        return "".join([one for one in value[:1024] if one in alphabet])[:longest] or None
    if kind == "enum":
        return _same(spec["values"], value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "list":
        of = dict(spec, type=spec.get("of", "token"))
        if not isinstance(value, (list, tuple)):
            return None
        good = [one for one in [_clean(of, item) for item in value] if one is not None]
        return good[: spec["max_items"]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _same(spec["labels"], value) if kind == "bucket" else None
    if kind == "bucket":
        # The number stays here; only its bucket's name goes on. Lower edges are inclusive.
        return spec["labels"][sum(1 for edge in spec["edges"] if value >= edge)]
    if kind == "int" and isinstance(value, int):
        within = spec.get("min", 0) <= value <= spec.get("max", _MAX_INTEGER)
        return int(value) if within else None
    return None


def _same(listed: "list[str]", value: "Any") -> "str | None":
    """The listed text that equals `value`: the contract's own, never the one that was given."""
    return listed[listed.index(value)] if isinstance(value, str) and value in listed else None
