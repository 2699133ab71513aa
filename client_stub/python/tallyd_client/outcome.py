"""How a command ended, in one word: for hosts whose contract asks for it.

    except BaseException as raised:
        error = raised
    ...
    client.event("command", outcome=outcome_of(error, said, exit_code))

It owns the order of what may say so: what was raised, then what the host noted, then the exit code. An
interrupt is no error, and a `SystemExit` is no more than its code. Imported by whoever wants it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# 128 + SIGINT and SIGTERM, as a shell tells them, and as Python tells them of a process it started.
_INTERRUPTED = (130, 143, -2, -15)


def outcome_of(
    error: "BaseException | type[BaseException] | None" = None,
    said: "str | None" = None,
    exit_code: "Any" = 0,
) -> str:
    """Give "ok", "error" or "aborted", or what the host noted itself. Never raises."""
    kind = error if error is None or isinstance(error, type) else type(error)
    if kind is not None and not issubclass(kind, SystemExit):
        return "aborted" if issubclass(kind, KeyboardInterrupt) else "error"
    if said:
        return said
    # `sys.exit("a text")` is 1, and `sys.exit()` is 0.
    code = getattr(error, "code", None) if kind is not None else exit_code
    if code in _INTERRUPTED:
        return "aborted"
    return "error" if code else "ok"
