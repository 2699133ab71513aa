"""One product's contract as this process sees it, and whether its user agrees.

It owns the order of the consent rules and the places of the files that they read. It takes the
constants that `tallyd contract build` writes; what is missing there has the grammar's default. It
guarantees that damage, and words that nobody knows, mean off. It screens nothing: `_screen` does.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_PRODUCT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_FALSE_WORDS = ("", "0", "false")
# The machine's own word, which whoever administers it writes; on Windows below %ProgramData%.
_MACHINE_FILE = "/etc/tallyd/policy.toml"
# What tallyd's own state file calls its keys, where a contract has no file of its own.
_OWN_KEYS = {
    "enabled": "enabled",
    "id": "machine_id",
    "source": "consent_source",
    "notice": "first_run_notice_shown",
    "updated": "updated_at",
}


class Stored:
    """What the state file says.

    `choice` is "none" (nobody chose), "on", "off" or "damaged"; `mode` the way of being on; `said`
    the date of an explicit choice as it stands there, `since` the same in Unix seconds.
    """

    __slots__ = ("choice", "id", "mode", "said", "since", "user")

    def __init__(self, choice: str, mode: str = "on") -> None:
        self.choice = choice
        self.mode = mode
        self.said: "str | None" = None
        self.since = 0.0
        self.id: "str | None" = None
        self.user: "str | None" = None


class Consent:
    """One look at the decision, as it is now.

    `mode` is "off", "on", "anonymous" or "identified"; `since` the Unix time of the stored explicit
    choice (0 when nobody chose), `said` its text; `id` whom the counts would be sent for.
    """

    __slots__ = ("id", "is_explicit", "mode", "said", "since")

    def __init__(self, mode: str, stored: "Stored | None" = None) -> None:
        self.mode = mode
        self.id: "str | None" = None
        self.said: "str | None" = None
        self.since, self.is_explicit = 0.0, False
        if stored is not None and stored.choice == "on":
            self.since, self.said, self.is_explicit = stored.since, stored.said, True

    @property
    def is_on(self) -> bool:
        """Whether anything may be counted."""
        return self.mode != "off"

    @property
    def stamp(self) -> "dict[str, str | None]":
        """What a delta says of the decision under which it was counted."""
        return {"since": self.said, "id": self.id}

    def is_other_than(self, earlier: "Consent") -> bool:
        """Whether somebody decided since. An id that was only made now is no decision."""
        return (
            self.mode != earlier.mode
            or self.said != earlier.said
            or (earlier.id is not None and self.id != earlier.id)
        )


class Policy:
    """A contract, and this process's place in it. Raises when there is none to go by.

    `registered` holds the names that the host knows, by field; `own_id` the id that this
    process has of its own, once `_identity` found it; `is_derived`: it is that of a value.
    """

    def __init__(
        self,
        product: "str | None",
        version: str,
        contract: "str | os.PathLike[str] | dict[str, Any] | None",
        envelope: "dict[str, Any]",
        identity: "str | None" = None,
        off: bool = False,
    ) -> None:
        self.config_dir, self.state_dir = directories(os.environ)
        if contract is None:
            contract = os.path.join(self.config_dir, "contracts", "%s.toml" % product)
        if isinstance(contract, dict):
            tables = contract
        else:
            from tallyd_client._load import load

            tables = load(contract)
        self.product: str = tables["product"]["name"]
        if not 0 < len(self.product) <= 32 or not _PRODUCT.issuperset(self.product):
            raise ValueError("%r is no product's name" % (self.product,))
        if product not in (None, self.product):
            raise ValueError("the contract is that of %r, not of %r" % (self.product, product))
        self.digest: str = tables["digest"][:16]
        self.text: bytes = tables["text"].encode("utf-8")
        self.events: "dict[str, Any]" = tables["events"]
        self.consent_rules: "dict[str, Any]" = tables["consent"]
        self.modes: "list[str]" = list(self.consent_rules.get("modes", ()))
        self.schema_version: int = tables.get("schema_version", 1)
        self.title: str = tables["product"].get("title", self.product)
        self.details: str = tables["product"].get("details", "")
        self.state: "dict[str, Any] | None" = tables.get("state")
        self.identity: "dict[str, Any]" = tables.get("identity") or {}
        self.identity_value = identity if isinstance(identity, str) else None
        self.own_id: "str | None" = None
        self.is_derived = False
        self.listed_envelope: "dict[str, Any]" = dict(tables.get("envelope", {}))
        self.given_envelope: "dict[str, Any]" = dict(envelope)
        self.version = version
        self.registered: "dict[str, frozenset[str]]" = {}
        # Built off, or told so by the host: no setting overrides either.
        self._is_off = bool(off) or tables.get("off") not in (None, False)
        self._has_terminal: "bool | None" = None

    @property
    def notice(self) -> str:
        """The one line to show before anything leaves."""
        off: str = self.consent_rules.get("off_command", "DO_NOT_TRACK=1")
        said = str(self.consent_rules["notice"])
        return said.replace("{off_command}", off).replace("{details}", self.details)

    @property
    def notice_file(self) -> str:
        """Where it is written down that the notice for this version of the contract was shown."""
        return os.path.join(self.state_dir, "notices", self.product, self.digest)

    @property
    def state_file(self) -> str:
        """Where the user's choice is: the product's own file, or tallyd's."""
        if self.state is None:
            return self.companion_file
        file = str(self.state["file"])
        return os.path.join(_home(os.environ), file[2:]) if file.startswith("~/") else file

    @property
    def companion_file(self) -> str:
        """The file of tallyd's own about the choice: the whole of it, or what the product's own cannot hold."""
        return os.path.join(self.state_dir, "consent", "%s.json" % self.product)

    @property
    def keys(self) -> "dict[str, str]":
        """What the state file calls what it holds; what is missing here it has no place for."""
        if self.state is not None:
            return dict(self.state["keys"])
        keys = dict(_OWN_KEYS, mode="mode") if self.modes else dict(_OWN_KEYS)
        return dict(keys, user="user_id") if self.identity.get("kind") == "user" else keys

    @property
    def needs_companion(self) -> bool:
        """Whether the product's own file has no place for a date."""
        return self.state is not None and "updated" not in self.state["keys"]

    def register(self, field: str, names: "Iterable[str]") -> None:
        """Let names of `field` through, beside those of before. Raises for what are none."""
        new = [names] if isinstance(names, str) else names
        known = self.registered.get(field, frozenset())
        # Another set in its place: whoever screens meanwhile sees the one or the other.
        self.registered[field] = known.union([one for one in new if isinstance(one, str)])

    def consent(self) -> Consent:
        """The decision by the first rule that has something to say."""
        is_on = self.verdict()
        if is_on is False:
            return Consent("off")
        stored = self.stored()
        if is_on is None:
            is_on = stored.choice == "on"
            if stored.choice == "none":
                is_on = self.consent_rules.get("default", "off") == "on"
        if not is_on:
            return Consent("off")
        # Switched on by a variable, nobody was asked in which way: the one that knows no person.
        mode = "anonymous" if self.modes else "on"
        decision = Consent(stored.mode if stored.choice == "on" else mode, stored)
        kind = self.identity.get("kind", "random")
        if kind == "random":
            decision.id = stored.id
        elif kind == "user":
            decision.id = stored.user if decision.mode == "identified" else ""
        return decision

    def verdict(self) -> "bool | None":
        """What stands before the stored choice says; None when it says nothing."""
        rules, environ = self.consent_rules, os.environ
        if self._is_off or self._is_forbidden(environ):
            return False
        if _do_not_track(rules.get("do_not_track", "set"), environ.get("DO_NOT_TRACK", "")):
            return False
        for switch in rules.get("env", ()):
            value = environ.get(switch["name"], "").strip().lower()
            if value:
                # Unknown text never enables: whoever writes TELEMETRY=disabled means it.
                return value in [one.strip().lower() for one in switch.get("on", ())]
        if rules.get("ci", "tag") == "off" and is_ci(environ):
            return False
        if rules.get("terminal", "any") == "required":
            if self._has_terminal is None:
                # Once: a host that replaces its stdout for a while was started at a terminal.
                self._has_terminal = os.isatty(1)
            if not self._has_terminal:
                return False
        return None

    def stored(self) -> Stored:
        """What the state file says. Damage of every kind is an answer."""
        try:
            file = self.state_file
            os.lstat(file)
        except FileNotFoundError:
            if self.state is None or not os.path.lexists(self.companion_file):
                return Stored("none")
        except OSError:
            return Stored("damaged")
        # Only where there is a file is the reading of one worth its import.
        from tallyd_client._state import read_stored

        return read_stored(self, file)

    def _is_forbidden(self, environ: "Any") -> bool:
        """Whether a policy file says off, or cannot be understood: it was not put there to say yes."""
        for file in (
            _machine_file(environ),
            os.path.join(self.config_dir, "policy.toml"),
            environ.get("TALLYD_POLICY_FILE", ""),
        ):
            try:
                if not file:
                    continue
                if not os.path.isabs(file):
                    return True
                os.lstat(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return True
            from tallyd_client._forbidden import forbids

            if forbids(file, self.product):
                return True
        return False


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


def is_ci(environ: "Any") -> bool:
    """Whether this is continuous integration."""
    return environ.get("CI", "").strip().lower() not in _FALSE_WORDS


def _home(environ: "Any") -> str:
    home: str = environ.get("HOME" if os.name != "nt" else "USERPROFILE", "")
    if not home and os.name == "nt":
        home = os.path.expanduser("~")
    elif not home:
        # Not by expanduser: with an empty HOME that is the root.
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            home = ""
    if not os.path.isabs(home):
        raise ValueError("there is no home directory")
    return home


def _machine_file(environ: "Any") -> str:
    if os.name != "nt":
        return _MACHINE_FILE
    return os.path.join(environ.get("ProgramData") or "C:\\ProgramData", "tallyd", "policy.toml")


def _do_not_track(rule: str, value: str) -> bool:
    if rule == "ignore":
        return False
    return bool(value) if rule == "any" else value.strip().lower() not in _FALSE_WORDS
