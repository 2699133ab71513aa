"""Free text on its way out: no secret, path or address passes, and prose does."""

from __future__ import annotations

import json
import re
import urllib.parse

import pytest
from support.processes import ROOT
from tallyd.contract import redact as module
from tallyd.contract.redact import MARK, PATH_MARK, one_line, redact

VECTORS = json.loads((ROOT / "tests/vectors/redaction_vectors.json").read_text())
LOOK = module._LOOK

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl-_s3cr3t"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEs3cr3t+/AB\nmoreBASE64==\n-----END RSA PRIVATE KEY-----"

# What each leak of the reference must become; those that the vectors only describe, in the flesh.
CLOSED = {
    "redis://:s3cr3t@h/0": f"redis://:{MARK}@h/0",
    "postgres://u:a/b@h/d": f"postgres://u:{MARK}@h/d",
    "postgres://u:a@b@h/d": f"postgres://u:{MARK}@h/d",
    '{"password": "s3cr3t"}': f'{{"password": "{MARK}"}}',
    "password: s3cr3t": f"password={MARK}",
    '{"api_key": "abc"}': f'{{"api_key": "{MARK}"}}',
    "Cookie: sid=s3cr3t": f"Cookie: {MARK}",
    "AWS_SECRET_ACCESS_KEY=s3cr3t": f"AWS_SECRET_ACCESS_KEY={MARK}",
    "DB_PASSWORD=s3cr3t": f"DB_PASSWORD={MARK}",
    f"got {JWT} here": f"got {MARK} here",
    f"got {JWT[:30]}": f"got {MARK}",
    f"key {KEY_ID}.": f"key {MARK}.",
    f"a {PEM} b": f"a {MARK} b",
    f"a {PEM[:50]}": f"a {MARK}",
    f"{PEM[45:]} b": f"{MARK} b",
    f"a {PEM!r} b": f"a '{MARK}' b",
    " ".join(PEM.split()): MARK,
}

SECRETS = {
    'Set-Cookie: a=b; c="d"\nHost: h': f"Set-Cookie: {MARK}\nHost: h",
    "Authorization: Digest a=b, response=c": f"Authorization: {MARK}",
    "{'Authorization': 'Basic QUJD'}": f"{{'Authorization': '{MARK}'}}",
    "password='my s3cr3t' x": f"password='{MARK}' x",
    'password="my \\" s3cr3t" x': f'password="{MARK}" x',
    'password="my s3cr3t': f'password="{MARK}',
    "password=b's3c r3t' x": f"password=b'{MARK}' x",
    'password="""my " s3cr3t""" x': f'password="""{MARK}""" x',
    r"{\"password\": \"my \\\" s3cr3t\"}": rf"{{\"password\": \"{MARK}\"}}",
    "clientSecret => abc": f"clientSecret={MARK}",
    "AccountKey=abc==;x": f"AccountKey={MARK};x",
    "API key: abc": f"API key={MARK}",
    "--password s3cr3t --user bob": f"--password {MARK} --user bob",
    "token=abc": f"token={MARK}",
    "bad TOKEN: abc": f"bad TOKEN={MARK}",
    "(token: abc": f"(token={MARK}",
    "Invalid token: s3cr3ts3cr3t": f"Invalid token={MARK}",
    f"password=abc{MARK}def": f"password={MARK}",
    "https://t0ken@h/x": f"https://{MARK}@h/x",
    "root:s3cr3t@tcp(h)/db": f"root:{MARK}@tcp(h)/db",
    "bearer abc": f"bearer {MARK}",
    "ghp_0123456789abcdefABCD": MARK,
    "https://h/f?q=my+search&p=12345&b=true#alice": f"https://h/f?q={MARK}&p={MARK}&b=true#{MARK}",
    "https://h/f;jsessionid=abc?alice": f"https://h/f;jsessionid={MARK}",
}

OF_THE_USER = {
    "open /home/alice/x.py:12: no": "open [path]:12: no",
    "at '/Users/alice smith/a b' now": "at '[path]' now",
    "(see /Users/alice smith/My Docs/x.txt)": "(see [path])",
    r"C:\Users\Bob Lee\x.txt failed": "[path] failed",
    r"C:\\Users\\Bob\\x": PATH_MARK,
    "D:/src/x": PATH_MARK,
    r"\\server\share\x": PATH_MARK,
    "~/x and ~alice/x": "[path] and [path]",
    "$HOME/a": PATH_MARK,
    "error:/home/x/y": "error:[path]",
    "PATH=/usr/bin:/home/alice/bin": "PATH=[path]:[path]",
    "cc -I/usr/include/x": "cc -I[path]",
    "[INFO]/home/alice/x": "[INFO][path]",
    "Loading.../home/alice": "Loading...[path]",
    "//home/alice/x": PATH_MARK,
    "file:///home/alice/x": "file://[path]",
    "</home/alice/x>": "<[path]>",
    "/home/alice/a and/or b": "[path] and/or b",
    f"/home/{MARK}/x": PATH_MARK,
    "mail alice.b+c@mail.example.com, now": "mail [email], now",
}

KEPT = [
    *VECTORS["must_stay_unchanged"],
    *("16.3", "a/b", "and/or", "1/2", "HTTP/1.1", "N/A", "24/7", "km/h", "2024/01/02", "~5/s"),
    *("unexpected token: foo", "Unexpected token: } in JSON", "the bearer token is missing"),
    *("text/html; q=0.5", "12:30:55", "C++/Rust", "x[0]/y[1]", "50%/year", "</div>", "/ or //"),
    *("./x ../../y", "pkg@1.2.3", "@types/node", "*/5 * * * *", "src/home/index.js"),
    *("https://h:80/home/alice/x?page=2&raw=true", "list[str] | None", "f(x) -> y", "key=value"),
    *("KeyError: 'foo'", "int() argument must be a string: 'abc'", "password=", "password: ;x"),
    *("split by '/' or '\\\\'", "secretary: none", "tokens: 500", "config=a", "rosig=a"),
]


@pytest.mark.parametrize(("text", "expected"), VECTORS["redacted_by_reference"])
def test_what_the_reference_redacts_comes_out_as_there(text: str, expected: str):
    assert redact(text) == expected


def test_every_leak_of_the_reference_is_among_those_closed():
    told = [one.split(" (")[0] for one in VECTORS["leaks_in_reference"]]

    assert [one for one in told if one not in CLOSED] == [
        "a bare JWT",
        "a bare AKIA key id",
        "a PEM private key block",
    ]


@pytest.mark.parametrize(("text", "expected"), [*CLOSED.items(), *SECRETS.items()])
def test_a_secret_is_gone_and_its_surroundings_stay(text: str, expected: str):
    assert redact(text) == expected


@pytest.mark.parametrize(("text", "expected"), OF_THE_USER.items())
def test_a_path_or_address_is_gone_and_its_surroundings_stay(text: str, expected: str):
    assert redact(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_prose_numbers_and_web_addresses_stay(text: str):
    assert (redact(text), one_line(text, 1000)) == (text, text.strip())


# --- secrets told -----------------------------------------------------------------------------------

HARD = 'p ä/+@:"%&ß'


@pytest.mark.parametrize(
    "form",
    [
        HARD,
        urllib.parse.quote(HARD),
        urllib.parse.quote(HARD, safe=""),
        urllib.parse.quote_plus(HARD),
        urllib.parse.quote(HARD, safe="").replace("%C3", "%c3").replace("%2F", "%2f").lower(),
    ],
)
def test_a_secret_told_is_found_encoded_or_not(form: str):
    assert redact(f"x{form}y", [HARD]) == f"x{MARK}y"
    assert redact(f"x{HARD}y", [urllib.parse.quote(HARD), urllib.parse.quote_plus(HARD)]) == (
        f"x{MARK}y"
    )


def test_secrets_that_overlap_or_hold_one_another_leave_no_rest():
    assert redact("xabcdefghy", ["abcd", "cdef", "efgh"]) == f"x{MARK}y"
    assert redact("xabcdefy abcd", ["abcd", "abcdef"]) == f"x{MARK}y {MARK}"
    assert redact("x" + "ab" * 9 + "y", ["abab"]) == f"x{MARK}y"
    assert redact("abcdabcd-efgh", ["abcd", "efgh"]) == f"{MARK}{MARK}-{MARK}"


def test_a_secret_of_less_than_four_characters_is_ignored():
    assert redact("the abc", ["abc", "the", "", "    ", "%41%42"]) == "the abc"


def test_one_secret_given_bare_is_one_secret():
    assert redact("my s3cr3t", "s3cr3t") == f"my {MARK}"


def test_a_secret_that_ends_in_a_newline_is_found_without_it():
    assert redact("my s3cr3t key", ["s3cr3t key\n"]) == f"my {MARK}"


def test_a_secret_like_a_mark_does_not_nest_marks():
    assert redact("redacted and path at /home/x/y", ["redacted", "path"]).count("[[") <= 1
    assert redact(f"redacted {MARK}", ["redacted"]) == f"{MARK} {MARK}"
    assert redact(f"x{MARK}y", [f"x{MARK}"]) == f"x{MARK}y"


# --- one line ---------------------------------------------------------------------------------------


def test_white_space_is_folded_and_trimmed():
    assert one_line(" a\n\tb\x1c\u2003c\r\n ", 99) == "a b c"


def test_lines_delimit_before_they_are_folded():
    assert one_line("Cookie: a=b\nstatus 500", 99) == f"Cookie: {MARK} status 500"


def test_what_folding_joins_to_a_secret_is_not_split_by_the_cut():
    assert one_line("see told\n  s3cr3t now", 11, ["told s3cr3t"]) == "see"


def test_the_cut_never_splits_a_secret_or_a_mark():
    text = f"failed for {JWT} at /home/alice/x by alice@example.com"
    whole = f"failed for {MARK} at [path] by [email]"
    cuts = [one_line(text, length) for length in range(len(whole) + 2)]

    assert cuts[-1] == cuts[-2] == whole
    assert {cut for cut in cuts if not whole.startswith(cut)} == set()
    remains = re.compile(r"\[(?!redacted\]|path\]|email\])")
    assert [cut for cut in cuts if remains.search(cut)] == []
    assert (cuts[20], cuts[21]) == ("failed for", f"failed for {MARK}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("told-s3cr3t", ["told-s3cr3t"]),
        ("told s3cr3t of many words", ["told s3cr3t of many words"]),
        (JWT, []),
        ("https://u:s3cr3t@h/", []),
        ("alice@s3cr3t.example.com", []),
        ("password='a told s3cr3t b'", []),
        (PEM, []),
    ],
)
def test_a_secret_at_the_end_of_the_look_leaks_no_part(secret: str, told: list[str]):
    """Blanks in front are folded away, so what stands at the end of the look is kept by the cut."""
    for inside in range(1, len(secret), max(1, len(secret) // 12)):
        text = "see" + " " * (LOOK - 3 - inside) + secret + " " + "x" * LOOK
        line = one_line(text, 1000, told)

        assert re.fullmatch(rf"see (?:password='?)?{re.escape(MARK)}", line), (inside, line)


def test_of_a_huge_word_nothing_is_kept_and_of_huge_prose_its_beginning():
    assert one_line("x" * (LOOK + 1), 1000) == MARK
    assert one_line("word " * LOOK, 12) == "word word wo"
    longest = one_line("word " * LOOK, 10 * LOOK)
    assert (len(longest), one_line(longest, 10 * LOOK)) == (LOOK - 2, longest)
