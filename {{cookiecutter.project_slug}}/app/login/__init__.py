"""Who is asking: sign-in by password, sessions that can be ended, an account of one's own."""

from collections.abc import Iterator, Mapping

from flask import Config, Flask
from limits import parse_many

from .. import checks, db
from ..problem import Problem
from . import api, cli, pages
from .sessions import current

SETTINGS: Mapping[str, object] = {
    "LOGIN_SESSION_IDLE_S": 43_200,
    "LOGIN_SESSION_MAX_S": 1_209_600,
    "LOGIN_FRESH_S": 900,
    "LOGIN_ACCOUNT_LIMIT": "20 per hour",
    "LOGIN_REGISTER": False,
}

MOST_PER_HOUR = 100


def init_app(app: Flask) -> None:
    """Register the pages, the endpoints and the commands; call this after the protections."""
    db.init_app(app)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(api.blueprint)
    app.cli.add_command(cli.user)
    app.context_processor(lambda: {"signed_in": current})  # asked where a template asks


def problems(config: Config) -> Iterator[Problem]:
    """Yield lifetimes that are none or cannot be kept, and a limit that cannot be read."""
    for name in ("LOGIN_SESSION_IDLE_S", "LOGIN_SESSION_MAX_S", "LOGIN_FRESH_S"):
        if config[name] <= 0:
            yield Problem(
                "login-lifetime", f"{name} is {config[name]} seconds.", f"From 1: {name} = 900"
            )
    idle_s, cookie_s = config["LOGIN_SESSION_IDLE_S"], config["PERMANENT_SESSION_LIFETIME"]
    if idle_s > cookie_s > 0:
        yield Problem(
            "login-idle",
            f"LOGIN_SESSION_IDLE_S is {idle_s} seconds, and the cookie is over after {cookie_s}.",
            f"To have the longer one, raise the other: PERMANENT_SESSION_LIFETIME = {idle_s}",
            level="warning",
        )
    try:
        limits = parse_many(config["LOGIN_ACCOUNT_LIMIT"])
    except ValueError:
        limits = []
    if limits and min(item.amount * 3_600 / item.get_expiry() for item in limits) > MOST_PER_HOUR:
        yield Problem(
            "login-account-limit-high",
            f"LOGIN_ACCOUNT_LIMIT is {config['LOGIN_ACCOUNT_LIMIT']!r}: "
            f"more than {MOST_PER_HOUR} guesses per hour (ASVS 6.3.1).",
            'Far fewer will do: LOGIN_ACCOUNT_LIMIT = "20 per hour"',
            level="warning",
        )
    if not limits or any(item.amount < 1 for item in limits):
        yield Problem(
            "login-account-limit",
            f"LOGIN_ACCOUNT_LIMIT: {config['LOGIN_ACCOUNT_LIMIT']!r} is not a limit.",
            'A number per second, minute, hour or day: LOGIN_ACCOUNT_LIMIT = "20 per hour"',
        )


checks.add(SETTINGS, [], problems)
