"""Small flat TOML files, such as hold a user's choice: read, and edited in place.

It owns a subset of TOML: lines `key = value` of strings, booleans, integers, floats and lists of
strings, with comments, below the file's own level and below `[table]` headers. The stub and the
daemon each have this module, byte for byte the same: `tomllib` is absent before 3.11 and costs
12 ms, `re` costs 3 ms.

It guarantees that what it accepts, `tomllib` reads to the same values (behind a byte order mark,
which `tomllib` leaves to its caller), that an edit keeps every byte it need not change, and that
time grows with the length of the text.

It knowingly refuses all other TOML, with the line's number: several-line strings, inline tables,
arrays of tables, quoted and dotted keys, dates, `inf`, `nan`, other bases, beyond 64 bits.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
_WRITTEN = {value: "\\" + letter for letter, value in _ESCAPES.items()}
_BOM = "\ufeff"
# No number of 64 bits or double is longer; int() takes quadratic time.
_MAX_NUMBER = 64
# A header's every beginning is a table as well; so their number stays in proportion to the text.
_MAX_DEPTH = 8


class _Entry:
    """A top-level key, its value, and where its line and its value lie."""

    def __init__(self, key: str, start: int) -> None:
        self.key = key
        self.start = start
        self.value: object = None
        self.value_start = self.value_end = self.end = start


def read(text: str) -> "dict[str, object]":
    """The values of the top-level keys: str, bool, int, float, list of str; tables are skipped.

    Raises ValueError with the line's number for whatever is not of the subset.
    """
    return {entry.key: entry.value for entry in _scan(text)[0]}


def replace(text: str, values: "Mapping[str, str | bool | int | None]") -> str:
    """`text` with these top-level keys set, and removed where None; every other byte as it was.

    A key that is there gets its value replaced where it stands; a removed one takes its line with
    it; a new one follows the last top-level key, or else stands before the first table, or at the
    end. Raises ValueError where `read` does, and for what cannot be written: a key that is not
    bare or is a table's name, text that is no Unicode, an integer beyond 64 bits.
    """
    written = {
        _bare(key): None if value is None else _written(value) for key, value in values.items()
    }
    entries, _ = _scan(text)
    pieces, done = [], 0
    for entry in entries:
        if entry.key not in written:
            continue
        value = written.pop(entry.key)
        if value is None:
            pieces.append(text[done : entry.start])
            done = entry.end
        else:
            pieces += [text[done : entry.value_start], value]
            done = entry.value_end
    text = "".join(pieces) + text[done:]
    added = [f"{key} = {value}" for key, value in written.items() if value is not None]
    if added:
        text = _with_lines(text, added)
    # What was added may be a table's name, or an integer beyond 64 bits.
    _scan(text)
    return text


def _with_lines(text: str, lines: "list[str]") -> str:
    """`text` with `lines` behind its last top-level key, in its own style of newlines."""
    entries, header = _scan(text)
    at = entries[-1].end if entries else header
    first = text.find("\n")
    newline = "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"
    block = newline.join(lines)
    # A last line that is not ended stays so.
    if at == len(text) and text.lstrip(_BOM) and text[-1] != "\n":
        return text + newline + block
    return text[:at] + block + newline + text[at:]


def _written(value: "str | bool | int") -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{int(value)}"
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} is not written")
    value.encode("utf-8")  # raises UnicodeEncodeError, a ValueError, for half a character
    return '"' + "".join(_WRITTEN.get(one) or _escape(one) for one in value) + '"'


def _escape(one: str) -> str:
    return f"\\u{ord(one):04X}" if _is_control(one) else one


def _bare(key: str) -> str:
    if not key or not _KEY.issuperset(key):
        raise ValueError(f"{key!r} is no bare key")
    return key


def _is_control(one: str) -> bool:
    return (one < " " and one != "\t") or one == "\x7f"


def _refusal(text: str, at: int, why: str) -> ValueError:
    return ValueError(f"line {text.count(chr(10), 0, at) + 1}: {why}")


def _scan(text: str) -> "tuple[list[_Entry], int]":
    """The top-level entries, and where the first table header's line begins (or the text ends)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _refusal(text, error.start, "half a character") from None
    entries: list[_Entry] = []
    header = len(text)
    # Whole paths: what is a key, which tables have a header, and what is a table at all.
    keys: set[tuple[str, ...]] = set()
    headed: set[tuple[str, ...]] = set()
    tables: set[tuple[str, ...]] = set()
    table: tuple[str, ...] = ()
    at = 1 if text.startswith(_BOM) else 0
    while at < len(text):
        start = at
        at = _blanks(text, at)
        if text.startswith("[", at):
            table, at = _header(text, at)
            paths = [table[:depth] for depth in range(1, len(table) + 1)]
            if table in headed or not keys.isdisjoint(paths):
                raise _refusal(text, start, "a table that is there already, or is a key")
            headed.add(table)
            tables.update(paths)
            header = min(header, start)
        elif at < len(text) and text[at] not in "#\r\n":
            entry = _Entry("", start)
            entry.key, at = _name(text, at)
            at = _blanks(text, at)
            if not text.startswith("=", at):
                raise _refusal(text, at, "no = after a bare key")
            path = (*table, entry.key)
            if path in keys or path in tables:
                raise _refusal(text, start, "a key that is there already")
            keys.add(path)
            entry.value_start = _blanks(text, at + 1)
            entry.value, entry.value_end = _value(text, entry.value_start)
            at = entry.value_end
            if not table:
                entries.append(entry)
        at = _line_end(text, at)
        if entries and not table:
            entries[-1].end = at if entries[-1].start == start else entries[-1].end
    return entries, header


def _blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _line_end(text: str, at: int) -> int:
    """Behind the newline, with blanks and a comment before it. Raises on anything else."""
    at = _blanks(text, at)
    if text.startswith("#", at):
        while at < len(text) and not _is_control(text[at]):
            at += 1
    if at == len(text):
        return at
    if text.startswith("\n", at):
        return at + 1
    if text.startswith("\r\n", at):
        return at + 2
    raise _refusal(text, at, f"{text[at]!r} is not expected here")


def _name(text: str, at: int) -> "tuple[str, int]":
    """A bare key, and where it ends."""
    end = at
    while end < len(text) and text[end] in _KEY:
        end += 1
    if end == at:
        raise _refusal(text, at, "no bare key")
    return text[at:end], end


def _header(text: str, at: int) -> "tuple[tuple[str, ...], int]":
    """The path of a table, and where its header ends."""
    path: list[str] = []
    while not path or text.startswith(".", at):
        name, at = _name(text, _blanks(text, at + 1))
        path.append(name)
        at = _blanks(text, at)
    if not text.startswith("]", at) or len(path) > _MAX_DEPTH:
        raise _refusal(text, at, "no table's header")
    return tuple(path), at + 1


def _value(text: str, at: int) -> "tuple[object, int]":
    """A value, and where it ends."""
    one = text[at : at + 1]
    if one in ('"', "'"):
        return _string(text, at)
    if one == "[":
        return _strings(text, at)
    end = at
    while end < len(text) and text[end] not in " \t\r\n#":
        end += 1
    word = text[at:end]
    if word in ("true", "false"):
        return word == "true", end
    return _number(text, at, word), end


def _number(text: str, at: int, word: str) -> "int | float":
    """The integer or float that `word` is, as TOML writes them."""
    unsigned = word[1:] if word[:1] in ("+", "-") else word
    mantissa, e, exponent = unsigned.replace("E", "e").partition("e")
    whole, dot, fraction = mantissa.partition(".")
    if (
        len(word) > _MAX_NUMBER
        or not _are_digits(whole)
        or (whole[0] == "0" and whole != "0")
        or (dot and not _are_digits(fraction))
        or (e and not _are_digits(exponent[1:] if exponent[:1] in ("+", "-") else exponent))
    ):
        raise _refusal(text, at, "no value of a kind that is read here")
    plain = word.replace("_", "")
    if dot or e:
        return float(plain)
    number = int(plain)
    if not -(2**63) <= number < 2**63:
        raise _refusal(text, at, "an integer beyond 64 bits")
    return number


def _are_digits(word: str) -> bool:
    """Whether `word` is digits, with single underscores between them at most."""
    return all(part and _DIGITS.issuperset(part) for part in word.split("_"))


def _strings(text: str, at: int) -> "tuple[list[str], int]":
    """A list of strings, on one line or several, and where it ends."""
    found: list[str] = []
    at = _space(text, at + 1)
    while not text.startswith("]", at):
        if text[at : at + 1] not in ('"', "'"):
            raise _refusal(text, at, "a list that is not closed, or of more than strings")
        value, at = _string(text, at)
        found.append(value)
        at = _space(text, at)
        if text.startswith(",", at):
            at = _space(text, at + 1)
        elif not text.startswith("]", at):
            raise _refusal(text, at, "no comma in a list")
    return found, at + 1


def _space(text: str, at: int) -> int:
    """Behind blanks, comments and newlines."""
    at = _blanks(text, at)
    while at < len(text) and text[at] in "#\r\n":
        at = _blanks(text, _line_end(text, at))
    return at


def _string(text: str, at: int) -> "tuple[str, int]":
    """A string on one line, in double quotes with escapes or in single ones, and where it ends."""
    quote = text[at]
    if text.startswith(quote * 3, at):
        raise _refusal(text, at, "a string of several lines")
    pieces: list[str] = []
    start = at = at + 1
    while at < len(text) and not _is_control(text[at]):
        if text[at] == quote:
            return "".join([*pieces, text[start:at]]), at + 1
        if text[at] == "\\" and quote == '"':
            one, end = _escaped(text, at)
            pieces += [text[start:at], one]
            start = at = end
        else:
            at += 1
    raise _refusal(text, at, "a string that is not closed, or holds a control character")


def _escaped(text: str, at: int) -> "tuple[str, int]":
    """The character that a backslash and what follows mean, and where that ends."""
    letter = text[at + 1 : at + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 2
    end = at + {"u": 6, "U": 10}.get(letter, 0)
    digits = text[at + 2 : end]
    if end > at and len(digits) == end - at - 2 and _HEX.issuperset(digits):
        code = int(digits, 16)
        if code < 0xD800 or 0xDFFF < code <= 0x10FFFF:
            return chr(code), end
    raise _refusal(text, at, "no escape")
