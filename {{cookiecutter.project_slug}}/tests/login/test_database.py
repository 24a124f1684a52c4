"""The database tells no secret, keeps what belongs together, and is never changed unasked."""

import os
import secrets
from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import create_engine, delete, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from app import create_app
from app import db as database
from app.db import Model, alembic, db
from app.login.models import LoginSession, User
from app.problem import Refusal
from tests.conftest import Browser, MakeApp
from tests.login import EMAIL, add, signed_in
from tests.login.conftest import is_signed_in
from tests.production import KEY, SETTINGS, VARIABLES
from tests.servers import free_port, run

SERVER = make_url(os.environ.get("TEST_DATABASE_URL") or "sqlite://")
SQLITE = SERVER.get_backend_name() == "sqlite"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a database that nothing is in yet."""
    if SQLITE:
        yield f"sqlite:///{tmp_path / 'new.sqlite3'}"
        return
    new = SERVER.set(drivername="postgres", database=f"new_{secrets.token_hex(8)}")
    order(f"CREATE DATABASE {new.database}")
    yield new.render_as_string(hide_password=False)
    lose(new.render_as_string())


def lose(url: str) -> None:
    """Take a database away from whoever is connected."""
    name = make_url(url).database or ""
    if not SQLITE:
        order(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        return
    for file in Path(name).parent.iterdir():
        file.unlink()
    Path(name).mkdir()  # or it would be made anew


def order(statement: str) -> None:
    """Have the server do what no transaction can."""
    url = SERVER.set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def start(url: str, **settings: object) -> Flask:
    """Start in production with this database."""
    return create_app(**{**SETTINGS, "SECRET_KEY": KEY, "DATABASE_URL": url, **settings})


def upgraded(url: str, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Return an application whose database it has brought up to date, as `flask db` does."""
    with monkeypatch.context() as patch:
        patch.setattr(database, "_is_a_command", lambda: True)
        app = start(url)
    with app.app_context():
        alembic.upgrade()
    app.test_client_class = Browser
    return app


def flask(url: str, *words: str) -> tuple[int, str]:
    """Run a flask command."""
    return run("flask", *words, variables={**VARIABLES, "DATABASE_URL": url})


def test_production_starts_with_no_schema_but_its_own(url: str) -> None:
    with pytest.raises(Refusal, match=r"database-behind.*\n.*flask db upgrade"):
        start(url)
    status, said = flask(url, "user", "list")
    assert (status, "flask db upgrade" in said, "Traceback" in said) == (1, True, False)
    status, said = flask(url, "db", "upgrade")
    assert status == 0, said
    assert start(url)
    status, said = flask(url, "db", "check")
    assert (status, said.splitlines()[-1]) == (0, "No changes detected.")
    app = start(url)
    with app.app_context():
        db.session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
        db.session.commit()
    database._seen.clear()
    with pytest.raises(Refusal, match="database-ahead"):
        start(url)


def test_gunicorn_refuses_once_and_ends(url: str) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    bind = f"127.0.0.1:{free_port()}"
    variables = {**VARIABLES, "DATABASE_URL": url}
    status, said = run("gunicorn", "--bind", bind, variables=variables)
    assert status == 1
    assert said.count("uv run flask db upgrade") == 1
    assert "Traceback" not in said


def test_development_brings_its_own_up_to_date(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.development.running", lambda: True)
    monkeypatch.setattr("app.development.problems", lambda: iter(()))
    app = start(url)
    with app.app_context():
        assert inspect(db.engine).has_table("login_session")
    client = app.test_client()
    assert client.get("/api/account", base_url="http://localhost:5000").status_code == 401


def test_a_migration_goes_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upgraded(url, monkeypatch)
    with app.app_context():
        assert inspect(db.engine).has_table("login_session")
        alembic.downgrade("base")
        assert inspect(db.engine).get_table_names() == ["alembic_version"]
        result = app.test_cli_runner().invoke(args=["user", "list"])
        assert (result.exit_code, "flask db upgrade" in str(result.exception)) == (1, True)
        alembic.upgrade()
        assert alembic.compare_metadata() == []


def test_a_new_database_has_no_account(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with upgraded(url, monkeypatch).app_context():
        assert db.session.query(User).count() == 0


def test_a_change_without_a_migration_is_seen(app: Flask) -> None:
    with app.app_context():
        assert alembic.compare_metadata() == []
        db.session.execute(text("CREATE INDEX drift ON user_account (created_at)"))
        db.session.commit()
        try:
            assert alembic.needs_revision()
        finally:
            db.session.execute(text("DROP INDEX drift"))
            db.session.commit()


def test_every_text_is_as_long_as_its_column(app: Flask) -> None:
    with app.app_context():
        for name, table in Model.metadata.tables.items():
            for column in inspect(db.engine).get_columns(name):
                said, is_so = table.columns[column["name"]].type, column["type"]
                assert getattr(said, "length", None) == getattr(is_so, "length", None), column


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://app@127.0.0.1/app", "database-url"),
        ("nonsense", "database-url"),
        ("postgresql://app@127.0.0.1:x/app", "database-url"),
        ("sqlite://", "database-url"),
        ("sqlite:////nowhere/at/all.sqlite3", "database-unreachable"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(url: str, problem: str) -> None:
    with pytest.raises(Refusal, match=rf"DATABASE_URL.*\[{problem}\]"):
        start(url)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no database\n" * 100)
    with pytest.raises(Refusal, match="database-unreachable"):
        start(f"sqlite:///{tmp_path / 'notes'}")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(Refusal, match="database-library") as refusal:
        start("postgres://app:the-password@127.0.0.1/app")
    assert "the-password" not in str(refusal.value)


def test_platforms_may_call_it_postgres() -> None:
    config = start(os.environ["DATABASE_URL"]).config
    config["DATABASE_URL"] = "postgres://app@127.0.0.1/app"
    assert make_url(database._url(config)).drivername == "postgresql+psycopg"


def test_no_error_shows_a_value(app: Flask, ada: int) -> None:
    with app.app_context():
        row = db.session.execute(select(User.__table__)).mappings().one()
        with pytest.raises(IntegrityError) as error:
            db.session.execute(insert(User).values(**row))
    assert EMAIL not in str(error.value)
    assert "INSERT INTO user_account" in str(error.value)


def test_sqlite_keeps_references_and_waits_for_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upgraded(f"sqlite:///{tmp_path / 'new.sqlite3'}", monkeypatch).app_context():
        found = {
            name: db.session.scalar(text(f"PRAGMA {name}"))
            for name in ("foreign_keys", "journal_mode", "busy_timeout")
        }
    assert found == {"foreign_keys": 1, "journal_mode": "wal", "busy_timeout": 5_000}


def test_sessions_go_with_their_account(app: Flask, ada: int) -> None:
    client = signed_in(app)
    with app.app_context():
        db.session.execute(delete(User))
        db.session.commit()
        assert db.session.query(LoginSession).count() == 0
    assert not is_signed_in(client)


def test_a_database_that_is_gone_is_503_and_no_more(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = upgraded(url, monkeypatch)
    add(app, EMAIL)
    client = signed_in(app)
    assert client.get("/readyz").text == "limit storage: ok\ndatabase: ok\n"
    if SQLITE:  # a file that is open stays
        with app.app_context():
            db.engine.dispose()
    lose(url)
    for path in ("/", "/account"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "cannot be done at the moment" in answer.text
        assert answer.headers["Content-Security-Policy"]
    assert client.get("/api/account").mimetype == "application/problem+json"
    assert "The database failed" in caplog.text
    assert app.test_client().get("/").status_code == 200  # who is not signed in is not asked for
    app.extensions.pop("readyz")
    assert client.get("/readyz").text == "limit storage: ok\ndatabase: down\n"


def test_a_database_that_goes_as_a_request_ends_takes_no_answer_away(
    app: Flask, ada: int, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_connection: object) -> None:
        raise OperationalError("ROLLBACK", None, ConnectionError())

    client = signed_in(app)
    with app.app_context():
        engine = db.engine
    event.listen(engine, "rollback", gone)
    try:
        assert client.get("/account").status_code == 200
    finally:
        event.remove(engine, "rollback", gone)
    assert "The database went as a request ended" in caplog.text


def test_no_request_starts_an_event_loop(app: Flask) -> None:
    assert not [close for close in app.teardown_appcontext_funcs if iscoroutinefunction(close)]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_nobody_else_on_the_host_reads_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tmp_path / "instance"
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda _app: str(instance))
    with pytest.raises(Refusal, match="database-behind"):
        start("")
    assert (instance / "app.sqlite3").exists()
    assert instance.stat().st_mode & 0o777 == 0o700


def test_the_url_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "sqlite:////tmp/x")
    with pytest.raises(Refusal, match=r"APP_DATABASE_URL is not read.*secret-with-prefix"):
        start("")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"LOGIN_SESSION_IDLE_S": 0}, "login-lifetime"),
        ({"LOGIN_SESSION_MAX_S": -1}, "login-lifetime"),
        ({"LOGIN_FRESH_S": 0}, "login-lifetime"),
    ],
)
def test_a_setting_that_protects_nothing_is_refused(
    make_app: MakeApp, settings: dict[str, object], problem: str
) -> None:
    with pytest.raises(Refusal, match=problem):
        make_app(**settings)
