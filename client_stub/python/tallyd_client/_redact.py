"""Free text without what betrays or identifies: what an error says, on its way out of the machine.

It owns the patterns of secrets, paths and addresses. The stub and the daemon each have this module,
byte for byte the same, and load it when there is text: `re` costs 3 ms.

It guarantees that secrets told to it are gone, that a second pass changes nothing, that time grows
with the length of the text and no faster, and that no text makes it raise. In doubt it takes more.

It knowingly leaves: secrets without a name or a known form, a bare password's part after a space,
`;` or `&`, percent-encoded `name%3Dvalue`, relative paths, `user@host` without a dot, IP addresses.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MARK, PATH_MARK, EMAIL_MARK = "[redacted]", "[path]", "[email]"

# Below four characters a secret is in every other word.
_MIN_SECRET = 4
# Three passes settle all that was met (340,000 random texts, 2026-11; the last one only sees that
# it holds); text that still changes after eight was made to, and goes whole.
_MAX_PASSES = 8
# one_line looks no further: 64 times the longest detail that any product keeps (1,000 characters).
_LOOK = 64 * 1024

# How names of secrets end, in lower case, without `_`, `-`, blanks and digits behind.
_NAMES = (
    *("password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential"),
    *("apikey", "accesskey", "secretkey", "privatekey", "authkey", "accountkey", "sharedkey"),
    *("signingkey", "encryptionkey", "credentials", "signature", "sessionid", "connectionstring"),
)
_HEADERS = ("authorization", "cookie", "cookies")  # whose values go on to the end of the line
_SEPARATORS = {ord(one): None for one in "_- "}
_SHORT_NAMES = frozenset(("sig", "pass", "jwt", "sid"))
# `unexpected token: foo` is prose: such a word after another one names no secret.
_PROSE = frozenset(("token", "secret", "signature", "credential", "credentials"))
_AFTER_WORD = re.compile(r"(?<=[^\W_][ \t])")
_RANDOM = re.compile(r"(?=[^\s;&]{12})[^\s;&\d]{0,64}\d")

# No pattern below rescans: each begins where nothing of its own kind stands before, or ends within
# a fixed number of characters, or takes all that it looked at (tests/support/regex_steps.py counts).
_NAMED = re.compile(
    r"(?<![A-Za-z0-9_-])"
    r"((?:(?i:api|access|auth|refresh|secret|private|client|session|security) )?[A-Za-z0-9_-]+)"
    r"((?:\\*[\"'])?\s*[:=]{1,2}>?\s*)"
)
_FLAG = re.compile(r"(?<!\S)(--[A-Za-z0-9_-]+)([ \t]+)(?![-\s])")
_QUOTE = re.compile(r"[bruBRU]{0,2}(\\{0,9})(\"\"\"|'''|[\"'])")
_BARE_END = re.compile(r"[\s;&]")
_LINE_END = re.compile(r"[\r\n]")
_PEM = re.compile(r"-----(BEGIN|END)[^-\r\n]{0,64}(?:-----)?")
_PEM_BODY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\ \t\r\n")
_RUN = re.compile(r"\S+")
_USER = re.compile(r"://[^:/?#]*:")
_LONE_USER = re.compile(r"(?<=://)[^:/?#@]+(?=@)")
_BARE_USER = re.compile(r"\A[^:/@\"']+:(?=[^/\"'][^\"']*\Z)")
_URL = re.compile(r"://[^\s\"'<>`]*")
_PARAMETER = re.compile(r"([?&#;])([^=?&#;]*)(=?)([^?&#;]*)")
_PLAIN = re.compile(r"(?:[0-9]{1,4}|true|false)?\Z")
_BEARER = re.compile(r"\b((?i:bearer)\s+)(?!(?i:tokens?)(?![\w.~+/=-]))[A-Za-z0-9._~+/=\[\]-]+")
_TOKEN = re.compile(
    r"eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){0,4}"  # JSON web token, cut off or not
    r"|(?<![A-Za-z0-9])(?:"
    r"A(?:KIA|SIA|GPA|IDA|ROA|IPA|NPA|NVA)[A-Z0-9]{12,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}"
    r"|sk-[\w-]{16,}|[srp]k_(?:live|test)_\w{10,}|xox[abeprs]-[\w-]{10,}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{10,}|npm_[A-Za-z0-9]{30,})"
)
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}")
# A path goes on over one blank when a separator follows the next word: `/Users/a/My Files/b`.
_PATH = re.compile(
    r"""
    (?P<kept> ://[^\s"'<>`,]* | </[A-Za-z][\w:.-]*> )  # an address or a closing tag is no path
    | (?<=["'`]) (?: [~/] | [A-Za-z]:[\\/] | \\\\ ) (?=[\w.~$/\\]) [^"'`\r\n]+ (?=["'`])
    | (?: (?<![\w.~@%/\\+*)\]}-]) | (?<=(?<!\S)-[A-Za-z]) | (?<=\.\.\.) ) / (?:[^\W\d]|\.) REST{2,}
      (?: (?![ ](?:and|or|n)/) [ ][^\s/\\:"'`<>|;,]{1,64} (?=/) REST* ){0,16}
    | (?<=[)\]}%]) / [^\W\d] [^\s/"'`<>|:;,]* / REST+
    | (?<![\w.~@%/\\+*)\]}:-]) //+ [\w.-]+ / REST*
    | (?<![\w~/.\\]) (?: ~(?:[^\W\d][\w.-]{0,31})? | \$\{?HOME\}? | %(?:USERPROFILE|APPDATA)% )
      [/\\] REST+
    | (?: (?<![A-Za-z0-9])[A-Za-z]:(?:\\|/(?!/)) | (?<![\w\\])\\{2,4}(?:\?\\)?[\w.$:-]{2,}\\ ) REST*
      (?: [ ][^\\/:*?"'<>|\r\n]{1,64} (?=\\) REST* ){0,16}
    """.replace("REST", r"""[^\s"'`<>|:;,]"""),
    re.VERBOSE,
)


def redact(text: str, secrets: "Iterable[str]" = ()) -> str:
    """`text` with MARK for every one of `secrets` and for what looks like one, and without paths.

    Secrets are found as given, percent-encoded and decoded; those below four characters are
    ignored. Paths become `[path]`, mail addresses `[email]`. Redacting again changes nothing.
    """
    return _settled(text, _forms(secrets))


def one_line(text: str, max_length: int, secrets: "Iterable[str]" = ()) -> str:
    """`text` redacted, on one line with single blanks, and then cut to `max_length` characters.

    A mark is kept whole or not at all. Of a text above 64 Ki characters the rest is not looked at,
    and MARK stands for the word, or the secret, that the end of the look falls into. Applied to
    its own result it changes nothing.
    """
    forms = _forms(secrets)
    if len(text) > _LOOK:
        text = _head(text[:_LOOK], forms)
    # Before the folding, since lines and blanks delimit; after it, for what the folding joined.
    text = _settled(" ".join(_settled(text, forms).split()), forms)
    for _ in range(_MAX_PASSES):
        cut = _cut(text, min(max_length, _LOOK))
        text = _settled(cut, forms)
        if text == cut:
            return cut
    return ""


def _settled(text: str, forms: "list[str]") -> str:
    """`text` after as many passes as change it; MARK alone for one that never settles."""
    for _ in range(_MAX_PASSES):
        passed = _pass(text, forms)
        if passed == text:
            return text
        text = passed
    return MARK


def _pass(text: str, forms: "list[str]") -> str:
    """`text` with every rule applied once: what is told first, then wholes before their parts."""
    text = _without_secrets(text, forms)
    text = _without_pem(text)
    if "@" in text:
        text = _RUN.sub(_without_user, text)
    text = _URL.sub(lambda url: _PARAMETER.sub(_without_parameter, url[0]), text)
    text = _without_values(text, _NAMED)
    text = _without_values(text, _FLAG)
    text = _BEARER.sub(r"\1" + MARK, text)
    text = _TOKEN.sub(MARK, text)
    text = _EMAIL.sub(EMAIL_MARK, text)
    return _PATH.sub(_without_path, text)


def _forms(secrets: "Iterable[str]") -> "list[str]":
    """Every text that one of `secrets` may appear as, longest first."""
    given = [secrets] if isinstance(secrets, str) else list(secrets)
    if not given:
        return []  # and urllib.parse stays unloaded
    from urllib.parse import quote, quote_plus, unquote, unquote_plus

    forms = set()
    for secret in given:
        # With blanks folded: as it stands on one line, and without a file's last newline.
        for plain in (secret, " ".join(secret.split()), unquote(secret), unquote_plus(secret)):
            forms.add(plain)
            # Encoders differ in what they leave as it is, and in the case of their digits.
            for safe in ("", "/", "!*'()"):
                for encode in (quote, quote_plus):
                    encoded = encode(plain, safe=safe, errors="surrogatepass")
                    forms.add(encoded)
                    forms.add(re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded))
    kept = (form for form in forms if len(form.strip()) >= _MIN_SECRET)
    return sorted(kept, key=lambda form: (-len(form), form))


def _without_secrets(text: str, forms: "list[str]") -> str:
    """`text` with MARK for each stretch that one form, or several that overlap, cover."""
    if not forms:
        return text
    # Between marks only: a secret such as `redacted` must not be found in the marks themselves.
    return MARK.join(_without_forms(piece, forms) for piece in text.split(MARK))


def _without_forms(piece: str, forms: "list[str]") -> str:
    spans: list[tuple[int, int]] = []
    for form in forms:
        at = piece.find(form)
        first, last = at, at
        while at >= 0:
            if at >= last:
                spans.append((first, last))
                first = at
            last = at + len(form)
            at = piece.find(form, at + 1)
        spans.append((first, last))
    kept: list[str] = []
    done = 0
    for first, last in sorted(spans):
        if last <= done or first == last:
            continue
        if first >= done:
            kept += [piece[done:first], MARK]
        done = last
    return "".join(kept) + piece[done:]


def _without_pem(text: str) -> str:
    """`text` without blocks between BEGIN and END lines, also when either of the two is cut off."""
    kept: list[str] = []
    done, begun = 0, -1
    for found in _PEM.finditer(text):
        if found[1] == "END":
            first = begun
            if begun < 0:
                first = found.start()
                while first > done and text[first - 1] in _PEM_BODY:
                    first -= 1
            kept += [text[done:first], MARK]
            done, begun = found.end(), -1
        elif begun < 0:
            begun = found.start()
    rest = text[done:] if begun < 0 else text[done:begun] + MARK
    return "".join(kept) + rest


def _without_user(found: "re.Match[str]") -> str:
    """A word without the password before its last `@`, for passwords hold `/` and `@` as well."""
    word = found[0]
    at = word.rfind("@")
    if at < 0:
        return word
    user = (_USER if "://" in word else _BARE_USER).search(word, 0, at)
    if user is not None:
        return word[: user.end()] + MARK + word[at:] if user.end() < at else word
    # A user alone is often a token: https://TOKEN@host/
    return _LONE_USER.sub(MARK, word)


def _without_parameter(found: "re.Match[str]") -> str:
    """A URL's parameter by its name alone, unless its value is a small number or a boolean."""
    mark, name, equals, value = found.groups()
    if equals:
        return mark + name + equals + (value if _PLAIN.match(value) else MARK)
    return mark + (name if _PLAIN.match(name) else MARK)


def _without_values(text: str, opening: "re.Pattern[str]") -> str:
    """`text` with MARK for each value behind a name of a secret, as `opening` finds names."""
    kept: list[str] = []
    done = at = 0
    while True:
        found = opening.search(text, at)
        if found is None:
            return "".join(kept) + text[done:]
        at = found.end()
        name, between = found.groups()
        plain = name.translate(_SEPARATORS).rstrip("0123456789").lower()
        is_header = plain.endswith(_HEADERS)
        is_secret = plain.endswith(_NAMES) or plain in _SHORT_NAMES or name.startswith("KTX_")
        if not (is_header or is_secret) or _is_prose(text, found):
            continue
        first, last = _value(text, at, is_header)
        if first == last:
            continue
        if first == at and not is_header and between.strip() in {":", "=", "==", ":=", "=>"}:
            between = "="
        kept += [text[done : found.start()], name, between, text[at:first], MARK]
        done = at = last


def _is_prose(text: str, found: "re.Match[str]") -> bool:
    """Whether a name is but the last word before a colon, and nothing random follows."""
    name, between = found.groups()
    return (
        name.lower() in _PROSE
        and not name.isupper()
        and between.strip() == ":"
        and _AFTER_WORD.match(text, found.start()) is not None
        and _RANDOM.match(text, found.end()) is None
    )


def _value(text: str, at: int, is_header: bool) -> "tuple[int, int]":
    """Where the value at `at` lies, without its quotes; unclosed ones hold all that is left."""
    quote = _QUOTE.match(text, at)
    if quote is not None:
        first, depth = quote.end(), len(quote[1])
        last = text.find(quote[2], first)
        while last >= 0:
            slashes = last
            while slashes > first and text[slashes - 1] == "\\":
                slashes -= 1
            # Within n levels of JSON the closing quote has the opening one's backslashes before
            # it, a quote of the value has more, and a backslash of the value is twice as many.
            if (last - slashes - depth) % (2 * depth + 2) == 0:
                return first, last - depth
            last = text.find(quote[2], last + 1)
        return first, len(text)
    if is_header:
        # A mark before a blank is this header's: on one line, others may stand behind it.
        last = at + len(MARK)
        if text.startswith(MARK, at) and (last == len(text) or text[last].isspace()):
            return at, last
    end = (_LINE_END if is_header else _BARE_END).search(text, at)
    return at, len(text) if end is None else end.start()


def _without_path(found: "re.Match[str]") -> str:
    if found["kept"] is not None:
        is_file = found["kept"][0] == ":" and found.string.endswith("file", 0, found.start())
        return "://" + PATH_MARK if is_file else found["kept"]
    path = found[0]
    # What closes the sentence around it is given back, unless the path opened it.
    tail = "" if "[" in path or "(" in path else path[len(path.rstrip(".!?)]}")) :]
    return PATH_MARK + tail


def _head(head: str, forms: "list[str]") -> str:
    """`head` with MARK for its last word, and for the beginning of a secret that it ends in."""
    last = len(head)
    while last > 0 and not head[last - 1].isspace():
        last -= 1
    for form in forms:
        for size in range(min(len(form) - 1, len(head)), len(head) - last, -1):
            if head.endswith(form[:size]):
                last = len(head) - size
                break
    return head[:last] + MARK


def _cut(text: str, max_length: int) -> str:
    """At most `max_length` characters of `text`, that end before a mark they would split."""
    if len(text) <= max_length:
        return text
    end = max(0, max_length)
    for mark in (MARK, PATH_MARK, EMAIL_MARK):
        at = text.find(mark, max(0, end - len(mark) + 1), end + len(mark) - 1)
        end = at if at >= 0 else end
    return text[:end].rstrip()
