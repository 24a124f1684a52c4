# % filter replace("by_password", "by_" ~ cookiecutter.login)
"""Who is asking: a way to sign in, sessions that can be ended, an account of one's own."""

from collections.abc import Iterator, Mapping

from flask import Config, Flask

from .. import checks, db
from ..problem import Problem
from . import api, cli, pages
from . import by_password as way
from .sessions import current

SETTINGS: Mapping[str, object] = {
    "LOGIN_SESSION_IDLE_S": 43_200,
    "LOGIN_SESSION_MAX_S": 1_209_600,
    "LOGIN_FRESH_S": 900,
    **way.SETTINGS,
}


def init_app(app: Flask) -> None:
    """Register the pages, the endpoints and the commands; call this after the protections."""
    db.init_app(app)
    way.init_app(app)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(api.blueprint)
    app.cli.add_command(cli.user)
    app.context_processor(lambda: {"signed_in": current})  # asked where a template asks


def problems(config: Config) -> Iterator[Problem]:
    """Yield lifetimes that are none or cannot be kept, and what the way to sign in finds."""
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
    yield from way.problems(config)


checks.add(SETTINGS, way.SECRETS, problems)
# % endfilter
