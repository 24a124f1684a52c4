"""The project's own flask commands.

They are plugin commands (see pyproject.toml), the only ones that Flask offers before the
application has loaded, so that they work on a project that refuses to start.
"""

import click

from . import checks, config, create_app, env_file


@click.command()
def check() -> None:
    """Say what in the settings defeats a protection; status 1 if anything does."""
    _, found = checks.examine({})
    for problem in found:
        click.echo(problem)
    if found:
        click.echo(f"{len(found)} found: the application would refuse to start.")
        raise SystemExit(1)
    create_app()
    click.echo("Nothing found: every protection is on.")


@click.group()
def secret_key() -> None:
    """Look after the key that signs sessions and tokens."""


@secret_key.command()
def create() -> None:
    """Write a random SECRET_KEY into .env if it has none; never overwrite, never show one."""
    path = config.ROOT / ".env"
    if env_file.create(str(path)):
        click.echo(f"A new SECRET_KEY is in {path}.")
    else:
        click.echo(f"{path} has a SECRET_KEY already; it stays.")
