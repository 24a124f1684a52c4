"""The project's own flask commands.

They are plugin commands (see pyproject.toml), the only ones that Flask offers before the
application has loaded, so that they work on a project that refuses to start.
"""

import hashlib
import json
from datetime import UTC, datetime

import click
from flask import Config

from . import checks, config, create_app, env_file, findings, rotation
from .outside import probes
from .outside.deployment import Deployment
from .outside.mistakes import MISTAKES
from .problem import LEVELS, Level, Refusal
from .security import csrf, rate_limits


@click.command()
@click.option(
    "--fail-level",
    type=click.Choice(LEVELS),
    default="warning",
    show_default=True,
    help="Status 1 from which level on.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(findings.FORMATS)),
    default="text",
    show_default=True,
    help="text for people, github for its workflows, json and sarif for programs.",
)
@click.option("--url", help="Look at a deployment instead, from outside: https://example.com")
@click.option("--http-url", help="Its http port, if that is not 80.")
@click.option("--ca-file", type=click.Path(exists=True), help="Who issued its certificate (PEM).")
def check(
    fail_level: Level, form: str, url: str | None, http_url: str | None, ca_file: str | None
) -> None:
    """Say what defeats a protection: settings, environment, files, versions, exemptions.

    docs/checks.md has every id. Errors stop the application as well; warnings and notes can be
    silenced in settings.toml, with a reason and a last day.
    With --url, say what a deployment answers against what these settings promise: a table, and
    status 1 if anything is not as promised. It sends about 50 requests and harms nothing.
    """
    if url:
        _look(url, http_url, ca_file, form)
        return
    settings, problems = checks.everything(config.ROOT)
    app = None if any(problem.level == "error" for problem in problems) else create_app()
    if app:
        problems += checks.exemptions(app)
    found = findings.located(problems, config.ROOT, config.given())
    told, silenced = findings.silence(found, settings["SILENCED_CHECKS"], findings.today())
    click.echo(findings.FORMATS[form](told), nl=False)
    if form == "text":
        for finding, reason in silenced:
            click.echo(f"silenced: [{finding.problem.id}] {reason}")
        click.echo(_summary(told))
        if app:
            click.echo(f"Exempt from CSRF: {', '.join(sorted(csrf.exemptions(app)))}.")
    if findings.fails(told, fail_level):
        raise SystemExit(1)


def _look(url: str, http_url: str | None, ca_file: str | None, form: str) -> None:
    """Print the table of a deployment; end with status 1 if it has a mistake."""
    if form not in ("text", "json"):
        raise click.BadParameter("--url has the formats text and json.", param_hint="--format")
    settings = _settings("rate-limit-unreadable")
    try:
        deployment = Deployment.at(url, http_url, ca_file, settings["TRUSTED_HOSTS"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--url' / '--http-url'") from None
    rows = []
    for row in probes.look(deployment, settings):
        rows.append(row)
        if form == "text":
            click.echo(f"{'WRONG' if row.mistake else 'ok':5} {row.what}")
            click.echo(f"      promised  {row.promised}\n      answered  {row.answered}")
    wrong = list(dict.fromkeys(row.mistake for row in rows if row.mistake))
    if form == "json":
        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
    elif wrong:
        click.echo("\n".join(["", *(f"[{name}] {MISTAKES[name]}" for name in wrong)]))
        click.echo("docs/proxy.md says what to do about each.")
    else:
        click.echo(f"All {len(rows)} answers are as promised.")
    if wrong:
        raise SystemExit(1)


def _summary(told: list[findings.Finding]) -> str:
    counts = [(level, sum(f.problem.level == level for f in told)) for level in reversed(LEVELS)]
    listed = ", ".join(f"{count} {level}{'s' * (count > 1)}" for level, count in counts if count)
    return f"{len(told)} found: {listed}." if told else "Nothing found: every protection is on."


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
    try:
        made = env_file.create(str(path), has_key=_has_key)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    if made:
        click.echo(f"A new SECRET_KEY is in {path}.")
    else:
        click.echo(f"{path} has a SECRET_KEY already; it stays.")


@secret_key.command()
@click.option("--compromised", is_flag=True, help="Drop every old key: whatever they signed ends.")
@click.option("--prune", is_flag=True, help="Also drop fallbacks whose day is over.")
def rotate(*, compromised: bool, prune: bool) -> None:
    """Put a new key in place of the old one, which counts until its last session is over.

    Where the key does not come from .env, say what to do there.
    """
    settings = _settings("session-lifetime")
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
    settings = _settings("secret-key")
    click.echo(f"SECRET_KEY {_fingerprint(settings['SECRET_KEY'])}")
    for place, fallback in enumerate(settings["SECRET_KEY_FALLBACKS"], 1):
        click.echo(f"SECRET_KEY_FALLBACKS {place} {_fingerprint(fallback)}")


def _settings(needed: str) -> Config:
    """Return the settings; raise Refusal for what is wrong with those that a command needs.

    `needed` is what the ids of their problems begin with.
    """
    settings, found = checks.examine({})
    if wrong := [problem for problem in found if problem.id.startswith(needed)]:
        raise Refusal(wrong)
    return settings


def _has_key(text: str) -> bool:
    return bool(rotation.assignments(text).get("SECRET_KEY"))


def _fingerprint(key: str) -> str:
    """Return 16 hexadecimal digits; a key that is no guess cannot be found from them."""
    return hashlib.sha256(f"fingerprint {key}".encode()).hexdigest()[:16]
