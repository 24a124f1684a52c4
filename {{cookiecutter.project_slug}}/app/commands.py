"""The project's own flask commands.

They are plugin commands (see pyproject.toml), the only ones that Flask offers before the
application has loaded, so that they work on a project that refuses to start.
"""

import hashlib
from datetime import UTC, datetime

import click

from . import checks, config, create_app, env_file, rotation
from .problem import Refusal
from .security import rate_limits


@click.command()
def check() -> None:
    """Say what in the settings defeats a protection; status 1 if anything does."""
    _, found = checks.examine({})
    found += checks.files(config.ROOT)
    for problem in found:
        click.echo(problem)
    if wrong := sum(problem.stops for problem in found):
        click.echo(f"{wrong} found.")
        raise SystemExit(1)
    create_app()
    click.echo("The application starts." if found else "Nothing found: every protection is on.")


@click.command()
def limits() -> None:
    """List every endpoint with the limits that a request spends, and whose they are."""
    app = create_app()
    with app.app_context():
        lines = list(rate_limits.listed())
    for method, rule, spends in lines:
        click.echo(f"{method:7} {rule:28} {spends}")
    click.echo(
        "\nOne client is one account that is signed in, else one IPv4 address or one IPv6 /64,\n"
        f"behind {app.config['PROXY_HOPS']} proxies. Unknown paths and wrong methods spend the "
        "limit over everything,\npreflights (OPTIONS) nothing."
    )


@click.group()
def secret_key() -> None:
    """Look after the key that signs sessions and tokens."""


@secret_key.command()
def create() -> None:
    """Write a random SECRET_KEY into .env if it has none; never overwrite, never show one."""
    path = config.ROOT / ".env"
    if env_file.create(str(path), has_key=_has_key):
        click.echo(f"A new SECRET_KEY is in {path}.")
    else:
        click.echo(f"{path} has a SECRET_KEY already; it stays.")


@secret_key.command()
@click.option("--compromised", is_flag=True, help="Drop the old key: whatever it signed ends.")
@click.option("--prune", is_flag=True, help="Also drop fallbacks whose day is over.")
def rotate(*, compromised: bool, prune: bool) -> None:
    """Put a new key in place of the old one, which counts until its last session is over.

    Where the key does not come from .env, say what to do there.
    """
    settings, _ = config.read({})
    today = datetime.now(UTC).date()
    until = rotation.last_day(today, settings["PERMANENT_SESSION_LIFETIME"])
    source = settings["SECRET_KEY_SOURCE"]
    if source in rotation.STEPS:
        click.echo(rotation.steps(source, until, settings["AWS_SECRET_ID"]))
        return
    path = config.ROOT / ".env"
    try:
        done = rotation.rotate(str(path), today, until, compromised=compromised, prune=prune)
    except (rotation.CannotRotateError, OSError) as error:
        raise click.ClickException(str(error)) from None
    counts = f"the old one counts until {done.last_day}" if done.last_day else "the old one is gone"
    click.echo(f"A new SECRET_KEY is in {path}; {counts}. Restart the application.")
    if done.pruned:
        click.echo(f"{done.pruned} fallbacks past their day are gone.")


@secret_key.command()
def fingerprint() -> None:
    """Show what tells two keys apart, and no key: compare two hosts by it."""
    settings, found = checks.examine({})
    if wrong := [problem for problem in found if problem.id.startswith("secret-key")]:
        raise Refusal(wrong)
    click.echo(f"SECRET_KEY {_fingerprint(settings['SECRET_KEY'])}")
    for place, fallback in enumerate(settings["SECRET_KEY_FALLBACKS"], 1):
        click.echo(f"SECRET_KEY_FALLBACKS {place} {_fingerprint(fallback)}")


def _has_key(text: str) -> bool:
    return bool(rotation.assignments(text).get("SECRET_KEY"))


def _fingerprint(key: str) -> str:
    """Return 16 hexadecimal digits; a key that is no guess cannot be found from them."""
    return hashlib.sha256(f"fingerprint {key}".encode()).hexdigest()[:16]
