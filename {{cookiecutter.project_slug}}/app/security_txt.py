"""Say where to report a weakness (RFC 9116)."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

from flask import Config, Flask, Response, abort, current_app, request

from .problem import Problem

SOON = timedelta(days=30)
PATH = "/.well-known/security.txt"
CONTACT = re.compile(r"(mailto:[^\s@]+@|https://)[^\s\"'`\\<>]+")


def init_app(app: Flask) -> None:
    """Register the file's address."""
    app.add_url_rule(PATH, view_func=security_txt)


def problems(config: Config) -> Iterator[Problem]:
    """Yield a contact or a date that nobody could read."""
    if not CONTACT.fullmatch(config["SECURITY_CONTACT"]):
        yield Problem(
            "security-contact",
            f"SECURITY_CONTACT is {config['SECURITY_CONTACT']!r}.",
            'A mailto: or https: address: SECURITY_CONTACT = "mailto:security@example.com"',
        )
    try:
        expires = _expires(config)
        if expires < datetime.now(UTC) + SOON:
            yield Problem(
                "security-txt-expires-soon",
                f"SECURITY_TXT_EXPIRES is {expires:%Y-%m-%d}: {PATH} is gone from that day on.",
                "See that the contact is still right, and move the day, at most a year ahead.",
                level="warning",
            )
    except ValueError:
        yield Problem(
            "security-txt-expires",
            f"SECURITY_TXT_EXPIRES is {config['SECURITY_TXT_EXPIRES']!r}.",
            'A day at most a year ahead: SECURITY_TXT_EXPIRES = "2027-01-31"',
        )


def security_txt() -> Response:
    """Return the file, or 404 once it has expired: an old contact misleads."""
    expires = _expires(current_app.config)
    if expires <= datetime.now(UTC):
        abort(404)
    lines = (
        f"Contact: {current_app.config['SECURITY_CONTACT']}",
        f"Expires: {expires:%Y-%m-%dT%H:%M:%SZ}",
        f"Canonical: https://{request.host}{PATH}",
        "Preferred-Languages: en",
    )
    return Response("\n".join((*lines, "")), content_type="text/plain; charset=utf-8")


def _expires(config: Config) -> datetime:
    """Return the first moment of the day (UTC); raise ValueError if the setting is none."""
    text = config["SECURITY_TXT_EXPIRES"]
    day = date.fromisoformat(text)
    if text != day.isoformat():  # 20270131 and 2027-W04-7 are days of ISO 8601, too
        raise ValueError(text)
    return datetime.combine(day, time(tzinfo=UTC))
