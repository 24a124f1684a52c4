"""The database: one connection per request, a schema made of migrations, no values in errors.

SQLite in instance/ unless DATABASE_URL names another.
https://flask-sqlalchemy-lite.readthedocs.io https://flask-alembic.readthedocs.io
"""

import importlib.util
import inspect
import logging
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
from alembic.util.exc import CommandError
from flask import Config, Flask
from flask.cli import FlaskGroup
from flask_alembic import Alembic
from flask_sqlalchemy_lite import SQLAlchemy
from sqlalchemy import MetaData, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response

from . import checks, errors, health
from .problem import Problem, Refusal

# Names that a migration can refer to, on every database.
NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg"}
# A new revision is written as this project is: `flask db revision` runs ruff on it.
FORMAT = {
    "hooks": "ruff",
    "ruff.type": "module",
    "ruff.module": "ruff",
    "ruff.options": "format --quiet REVISION_SCRIPT_FILENAME",
}
BUSY_MS = 5_000  # how long a writer waits for another
CONNECT_S = 5
Teardown = Callable[[BaseException | None], None]
GONE = (OperationalError, InterfaceError, PoolTimeoutError)


class Model(DeclarativeBase):
    """What every table's class inherits from."""

    metadata = MetaData(naming_convention=NAMES)


db = SQLAlchemy(session_options={"expire_on_commit": False})
alembic = Alembic(metadatas=Model.metadata, run_mkdir=False)
_seen: set[str] = set()  # databases whose schema is that of the code


def init_app(app: Flask) -> None:
    """Connect, and refuse a schema that is behind; development brings it up to date itself.

    A flask command is not asked: it may be the one that brings it up to date, or need none.
    Raises Refusal, naming `flask db upgrade`.
    """
    url = _url(app.config) or f"sqlite:///{Path(app.instance_path) / 'app.sqlite3'}"
    # Values of a statement may be password hashes: they stay out of errors and logs.
    engine: dict[str, object] = {"url": url, "hide_parameters": True, "pool_pre_ping": True}
    if make_url(url).get_backend_name() == "postgresql":
        engine["connect_args"] = {
            "connect_timeout": CONNECT_S,
            "tcp_user_timeout": 2_000 * CONNECT_S,  # ms: a host that has vanished
        }
    app.config["SQLALCHEMY_ENGINES"] = {"default": engine}
    app.config["ALEMBIC"] = {
        "script_location": str(Path(__file__).parent / "migrations"),
        "post_write_hooks": FORMAT,
    }
    app.config["ALEMBIC_CONTEXT"] = {"render_as_batch": True}  # SQLite alters by copying a table
    db.init_app(app)
    # Its other half closes asynchronous sessions, in an event loop of its own for every request.
    closing = app.teardown_appcontext_funcs
    closing[:] = [_kept(close) for close in closing if not inspect.iscoroutinefunction(close)]
    alembic.init_app(app)
    for error in GONE:
        app.register_error_handler(error, _unavailable)
    health.DEPENDENCIES["database"] = answers
    if not app.config["DATABASE_URL"]:
        with suppress(OSError):  # then it cannot be opened, and that is said below
            Path(app.instance_path).mkdir(mode=0o700, exist_ok=True)
    with app.app_context():
        event.listen(db.engine, "connect", _prepare)
        weakref.finalize(app, db.engine.dispose)  # its connections end with it
        if app.config["DEBUG"]:
            _quiet()
            alembic.upgrade()
        elif not _is_a_command():
            demand_schema()


def demand_schema() -> None:
    """Raise Refusal if the schema of the current application's database is not that of its code.

    It is looked at once in a process and those that are forked from it: a worker that is replaced
    while the database is gone answers 503 until it is back.
    """
    url = str(db.engine.url)
    if url in _seen:
        return
    _quiet()
    if problem := _schema_problem():
        raise Refusal([problem])
    _seen.add(url)


def problems(config: Config) -> Iterator[Problem]:
    """Yield a URL that names no database that was tried, or one whose library is missing."""
    hint = (
        "Leave it out for SQLite in instance/, or name a file or a server: "
        "DATABASE_URL=sqlite:////srv/data/app.sqlite3 or "
        "DATABASE_URL=postgresql://USER:PASSWORD@HOST/NAME"
    )
    if not config["DATABASE_URL"]:
        return
    try:
        url = make_url(_url(config))
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        yield Problem("database-url", "DATABASE_URL is no URL of a database.", hint)
        return
    if backend not in DRIVERS:
        yield Problem("database-url", f"DATABASE_URL begins with {backend!r}.", hint)
    elif backend == "sqlite" and not url.database:
        yield Problem("database-url", "DATABASE_URL names SQLite, and no file.", hint)
    elif not importlib.util.find_spec(DRIVERS[backend]):
        yield Problem(
            "database-library",
            f"DATABASE_URL: the library for {backend} is not installed.",
            "Type: uv add 'psycopg[binary]'",
        )


def answers() -> bool:
    """Return whether the database can be asked."""
    try:
        with db.engine.connect():
            return True
    except GONE:
        return False


def _url(config: Config) -> str:
    """Return the URL, with the driver that is installed; some platforms say `postgres://`."""
    scheme, colon, rest = str(config["DATABASE_URL"]).partition("://")
    is_postgresql = scheme in ("postgres", "postgresql")
    return f"{'postgresql+psycopg' if is_postgresql else scheme}{colon}{rest}"


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    """Make SQLite keep foreign keys and read while somebody writes, and neither wait for ever."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
    else:
        connection.cursor().execute(f"SET lock_timeout = {BUSY_MS}")
        connection.commit()


def _is_a_command() -> bool:
    """Return whether a flask command builds the application: those that need the schema say so."""
    context = click.get_current_context(silent=True)
    return context is not None and isinstance(context.find_root().command, FlaskGroup)


def _quiet() -> None:
    """Leave out what Alembic tells of every look at the schema."""
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _schema_problem() -> Problem | None:
    try:
        behind = alembic.needs_upgrade()
    except (DBAPIError, PoolTimeoutError) as error:  # gone, or not for this user
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        return Problem(
            "database-unreachable",
            f"DATABASE_URL: the database cannot be opened: {reason}",
            "See that it is there, and that it may be read and written by the application's user.",
        )
    except CommandError:
        return Problem(
            "database-ahead",
            "DATABASE_URL: the schema has a revision that is not in app/migrations.",
            "Deploy the code that made it; or go back with that code: uv run flask db downgrade",
        )
    if behind:
        return Problem(
            "database-behind",
            "DATABASE_URL: the schema of the database is behind app/migrations.",
            "Type: uv run flask db upgrade",
        )
    return None


def _kept(close: Callable[[BaseException | None], object]) -> Teardown:
    """Return a teardown function that takes no answer away when the database has just gone.

    What ends a transaction that nothing is left of fails outside of every error handler.
    """

    def closed(error: BaseException | None) -> None:
        try:
            close(error)
        except GONE as gone:
            logging.getLogger(__name__).error("The database went as a request ended", exc_info=gone)

    return closed


def _unavailable(error: Exception) -> Response:
    """Answer 503 while the database is gone; the log has the reason, without values."""
    logging.getLogger(__name__).error("The database failed", exc_info=error)
    return errors.answer(ServiceUnavailable())


checks.add({}, ["DATABASE_URL"], problems)
