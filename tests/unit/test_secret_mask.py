"""Secrets in answers: masked in every form that error pages give them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from poussetaches.engine.secret_mask import SecretMask

KEY = "k-7f3a9c1e/Qz+Wk=="
ODD_KEY = "a\"b'c<d>&e\\nf/%41 &lt;{}`="
SECRET_BYTES = bytes(range(200, 232))  # of a signing secret; no text

Escape = Callable[[str], str]


def numeric(form: str) -> Escape:
    """Return what escapes each character by its number."""
    return lambda text: "".join(form.format(ord(character)) for character in text)


def basic(shift: int) -> Escape:
    """Return what makes a text part of something in base64, behind so many characters."""
    return lambda text: base64.b64encode(f"{'u' * shift}:{text}:x".encode()).decode()


def url_safe(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def in_lines(text: str) -> str:
    return base64.encodebytes(f"{'-' * 40}{text}".encode()).decode()


ESCAPES: dict[str, Escape] = {
    "as it is": str,
    "HTML": html.escape,
    "HTML, entities": lambda text: text.replace("&", "&amp;").replace("/", "&sol;"),
    "HTML, decimal": numeric("&#{};"),
    "HTML, hex": numeric("&#x{:02x};"),
    "HTML, capitals and zeros": numeric("&#X00{:02X};"),
    "URL": lambda text: quote(text, safe=""),
    "URL, small letters": numeric("%{:02x}"),
    "form": quote_plus,
    "JSON": json.dumps,
    "JSON, slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON, all": numeric("\\u{:04x}"),
    "JSON, capitals": numeric("\\u{:04X}"),
    "Python": repr,
    "octal": numeric("\\{:03o}"),
    "hex escapes": numeric("\\x{:02x}"),
    "JavaScript": numeric("\\u{{{:x}}}"),
    "old JavaScript": numeric("%u{:04x}"),
    "hex": lambda text: text.encode().hex(),
    "hex, capitals": lambda text: text.encode().hex().upper(),
    "JSON in HTML": lambda text: html.escape(json.dumps(text)),
    "HTML in JSON": lambda text: json.dumps(html.escape(text)).replace("&", "\\u0026"),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "HTML in a URL in JSON": lambda text: json.dumps(quote(html.escape(text))),
    "Basic, first place": basic(2),
    "Basic, second place": basic(0),
    "Basic, third place": basic(1),
    "base64 for URLs": url_safe,
    "base64 in a URL": lambda text: quote(basic(1)(text), safe=""),
    "base64 in JSON": lambda text: json.dumps(basic(1)(text)).replace("/", "\\/"),
    "base64 in lines": in_lines,
}


def is_hidden(text: bytes, secret: str) -> bool:
    """Return whether no eight characters of a secret are left in a text, nor of its base64."""
    forms = [secret.encode(), base64.b64encode(secret.encode())]
    return not any(form[at : at + 8] in text for form in forms for at in range(len(form) - 7))


@pytest.mark.parametrize("secret", [KEY, ODD_KEY], ids=["usual", "odd"])
@pytest.mark.parametrize("name", ESCAPES)
def test_secret_is_masked_in_every_form(name: str, secret: str) -> None:
    escaped = ESCAPES[name](secret)
    page = f"<p>100% of it:\\ {escaped} & more\n</p>".encode()

    masked = SecretMask([secret.encode()]).cut(page, len(page))

    assert b"***" in masked
    assert is_hidden(masked, secret)
    assert masked.startswith(b"<p>100% of it:\\ ")
    assert masked.endswith(b" & more\n</p>")


@pytest.mark.parametrize("before", ["%", "\\", "&#", "100%", "C:\\", "\\u00"])
def test_secret_is_masked_whatever_stands_before_it(before: str) -> None:
    secret = "41nn00aa-long-and-random"

    masked = SecretMask([secret.encode()]).cut(f"{before}{secret}".encode(), 1000)

    assert masked == f"{before}***".encode()


def test_secret_that_is_no_text_is_masked_in_base64() -> None:
    page = b"POUSSETACHES_SIGNING_SECRET=whsec_%s\n" % base64.b64encode(SECRET_BYTES)

    masked = SecretMask([SECRET_BYTES]).cut(page, 1000)

    assert masked == b"POUSSETACHES_SIGNING_SECRET=whsec_***=\n"


def test_all_secrets_are_masked_each_time() -> None:
    page = b"key: long-and-random, again long-and-random, token: another-secret"

    masked = SecretMask([b"long-and-random", b"another-secret"]).cut(page, 1000)

    assert masked == b"key: ***, again ***, token: ***"


@pytest.mark.parametrize(
    ("secrets", "page"),
    [
        ([], b"done"),
        ([b"long-and-random"], b"long-and-rand"),
        ([b"test"], b"the test is over"),
        ([b"%41%42%43%44"], b"ABCD, ABCD"),
    ],
    ids=["no secret", "a part", "a short secret", "a secret that stands for a short word"],
)
def test_other_text_stays_as_it_is(secrets: list[bytes], page: bytes) -> None:
    assert SecretMask(secrets).cut(page, 1000) == page


@pytest.mark.parametrize("name", ESCAPES)
def test_secret_at_the_cut_is_masked(name: str) -> None:
    secret_mask = SecretMask([KEY.encode()])
    escaped = ESCAPES[name](KEY)
    limit = 1000

    for shift in range(len(escaped) + 1):
        page = b"-" * (limit - shift) + escaped.encode() + b"-" * secret_mask.margin
        masked = secret_mask.cut(page[: limit + secret_mask.margin], limit)

        assert is_hidden(masked, KEY), shift
        assert len(masked) <= limit + len("***")


def test_text_between_secrets_is_kept_when_they_are_many() -> None:
    secret_mask = SecretMask([KEY.encode()])
    page = f"a{KEY}b{quote(KEY)}".encode() * 100

    assert secret_mask.cut(page, len(page)) == b"a***b***" * 100


def test_text_of_an_error_is_masked() -> None:
    text = f"a redirect to /caf\u00e9/{quote(KEY)}/\udce9"

    assert SecretMask([KEY.encode()]).masked(text) == "a redirect to /caf\u00e9/***/\udce9"
