"""What can be wrong between a visitor and this application, by the name docs/proxy.md gives it."""

from collections.abc import Mapping

MISTAKES: Mapping[str, str] = {
    "unanswered": "A request is not answered, or not by the application.",
    "certificate": "https has no certificate that is valid for this name.",
    "hops-too-many": "A forged X-Forwarded-For gets a fresh allowance: PROXY_HOPS is too high, or "
    "the nearest proxy passes the header on without adding to it.",
    "hops-wrong": "Two visitors spend one allowance: PROXY_HOPS is not the number of proxies that "
    "add to X-Forwarded-For, so that everybody is a proxy.",
    "scheme-lost": "https is redirected to https for ever: the nearest proxy does not set "
    "X-Forwarded-Proto, or PROXY_HOPS is 0.",
    "scheme-forged": "A page is shown over http to whoever sends X-Forwarded-Proto: the nearest "
    "proxy passes the visitor's header on instead of overwriting it.",
    "host-lost": "The application is not asked for the visitor's host: a proxy changes Host, or "
    "TRUSTED_HOSTS lacks the name.",
    "host-any": "Another host's name is answered: a proxy overwrites Host with a fixed name.",
    "link-forged": "A forged header chooses where a redirect leads.",
    "http-answered": "http does not lead to https: a proxy answers there itself, or tells the "
    "application that it is https.",
    "http-redirected": "A POST over http is redirected: a proxy does that itself. The visitor's "
    "data has been sent in the clear, and nobody notices.",
    "headers-changed": "A header of the application is missing, double or different: a proxy adds "
    "its own or drops ours.",
    "request-changed": "A request does not arrive as it was sent: a proxy drops a header of it, "
    "or answers itself.",
    "settings-other": "What is answered follows from other settings: another version or other "
    "variables run there, or SECURITY_TXT_EXPIRES is over.",
    "readyz-outside": "/readyz can be asked from outside: the proxy has no rule for it.",
    "port-outside": "gunicorn can be reached past the proxy: whoever does can claim any address.",
    "tls-old": "TLS older than 1.2 is accepted.",
    "version-told": "The Server header tells a version.",
    "body-unbounded": "A body of two megabytes is accepted: a bound is missing.",
    "cached": "An answer came from a cache: two visitors share a token.",
}


def mistake(name: str, *seen: object) -> str:
    """Return the sentence that a failure shows: the name, what it is, what was seen."""
    return f"[{name}] {MISTAKES[name]} Seen: {', '.join(map(str, seen))}"
