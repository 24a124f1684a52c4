"""Build the application: settings, then protections, then what visitors see."""

from flask import Flask

from . import (
    api,
    checks,
    development,
    errors,
    health,
    # % if cookiecutter.login != "none"
    login,
    # % endif
    pages,
    reports,
    request_id,
    security,
    security_txt,
)


def create_app(**overrides: object) -> Flask:
    """Return the application; overrides win over every other source of settings.

    Raises Refusal, which ends the program with status 1 and a list on stderr,
    when any setting would defeat a protection.
    """
    app = Flask(__name__)
    app.config.from_mapping(checks.settings(overrides))
    health.init_app(app)  # ahead of the protections: monitors ask by address and over http
    security.init_app(app)
    request_id.init_app(app)
    errors.init_app(app)
    for part in (pages, api, reports, security_txt):
        part.init_app(app)
    # % if cookiecutter.login != "none"
    login.init_app(app)
    # % endif
    development.announce()
    return app
