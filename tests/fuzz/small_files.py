"""The small files that others may write: settings, lock, flush requests and answers, notices, agreements.

An input is a letter that picks the reader, and the file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from support.processes import DEMO_CONTRACT
from tallyd import lock, notices, requests
from tallyd.contract import Contract, parse_contract
from tallyd.contract.days import instant, unix_of
from tallyd.errors import NotRegistered, SettingsError
from tallyd.lock import Holder
from tallyd.paths import Paths
from tallyd.registry import Registry
from tallyd.settings import Settings, read_settings

from fuzz.scratch import home, put

_PRODUCT = "tallyd-demo"


def one_input(data: bytes) -> None:
    """A value of the promised kind, or the reader's own error; nothing else whatever stands there."""
    reader = _READERS.get(data[:1], _read_settings)
    reader(Paths(home("small") / "config", home("small") / "state"), data[1:])


def _read_settings(paths: Paths, content: bytes) -> None:
    put(paths.settings_file, content)
    try:
        settings = read_settings(paths)
    except SettingsError as error:
        assert str(paths.settings_file) in str(error)
        return
    assert isinstance(settings, Settings)
    assert settings.log_level in ("debug", "info", "warning", "error")
    assert 1 <= settings.rescan_interval_s <= 3600


def _read_lock(paths: Paths, content: bytes) -> None:
    """Whoever holds the lock may have written anything into it; `status` must still say something."""
    put(paths.lock, content)
    with paths.lock.open("r+b") as held:
        lock._take(held)
        holder = lock.current_holder(paths)
        assert isinstance(holder, Holder)
        assert isinstance(holder.pid, int)
        # As `status` tells it.
        instant(holder.started_at)
    assert lock.current_holder(paths) is None


def _read_request(paths: Paths, content: bytes) -> None:
    request = put(paths.flush_requests / "a-request", content)
    names = requests.to_forget(request)
    assert all("/" not in one and not one.startswith(".") for one in names)


def _read_answer(paths: Paths, content: bytes) -> None:
    request = put(paths.flush_requests / "a-request", b"[]")
    put(paths.flush_requests / "a-request.answer", content)
    said = requests.wait(request, 0.0, lambda: False)
    assert said is None or isinstance(said, dict)
    assert requests.pending(paths) == []


def _read_notice(paths: Paths, content: bytes) -> None:
    put(paths.notices(_PRODUCT) / _demo().short_digest, content)
    at = notices.shown_at(_demo(), paths)
    assert at is None or at == unix_of(content.decode("ascii").strip())


def _read_contracts(paths: Paths, content: bytes) -> None:
    """The registered one, and the one agreed to: damage stops this product, and says so."""
    registry = Registry(paths)
    put(paths.contracts / f"{_PRODUCT}.toml", content)
    put(paths.agreed(_PRODUCT), content)
    agreement = registry.agreement(_PRODUCT)
    try:
        contract = registry.get(_PRODUCT)
    except NotRegistered:
        assert agreement.is_damaged or agreement.contract is not None
        return
    assert contract.text == content
    assert agreement.contract == contract


@cache
def _demo() -> Contract:
    return parse_contract(DEMO_CONTRACT.read_bytes(), DEMO_CONTRACT.name)


_READERS: dict[bytes, Callable[[Paths, bytes], None]] = {
    b"d": _read_settings,
    b"l": _read_lock,
    b"r": _read_request,
    b"a": _read_answer,
    b"n": _read_notice,
    b"c": _read_contracts,
}
