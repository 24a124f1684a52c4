"""Change the secret key without signing anybody out.

The new key signs, the old one still counts until its day is over: sessions, open forms and
whatever else was signed live on. Who knows a compromised key must not: it is dropped at once.
"""

import io
import re
from datetime import date, timedelta
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from . import env_file
from .security import secret_key

DAY_S = 86_400

FALLBACKS = "SECRET_KEY_FALLBACKS"
EMPTY = re.compile(r"^([^\S\r\n]*)(?:''|\"\")?")  # what follows the = of an empty value

# What to do where the key does not come from .env.
STEPS = {
    "environment": """\
1. Make a new key, where nobody looks over your shoulder: {make}
2. Put the present key, with its last day, in front of the fallbacks:
   SECRET_KEY_FALLBACKS=the-present-key:{until}
3. Set SECRET_KEY to the new one, and restart every process.
4. After {until}, take the old one out of SECRET_KEY_FALLBACKS, and restart again.
A compromised key: empty SECRET_KEY_FALLBACKS in step 2. Every session ends.""",
    "file": """\
1. Put what the mounted file holds, with its last day, into the environment:
   SECRET_KEY_FALLBACKS=the-present-key:{until}
2. Put a new key into the secret behind SECRET_KEY_FILE: {make}
3. Restart every process.
4. After {until}, take the old one out of SECRET_KEY_FALLBACKS, and restart again.
A compromised key: empty SECRET_KEY_FALLBACKS in step 1. Every session ends.""",
    "aws-secrets-manager": """\
1. Store a new version:
   aws secretsmanager put-secret-value --secret-id {secret_id} --secret-string "$({make})"
2. Restart every process: the current version signs, the previous one still counts.
3. After {until}, do both again if the old key shall count no longer.
A compromised key: do step 1 twice, then step 2. Every session ends.""",
}


class CannotRotateError(Exception):
    """The file is as it was; the text says what to do."""


class Rotated(NamedTuple):
    """What a rotation did; no key is in it."""

    last_day: date | None
    pruned: int


def steps(source: str, until: date, secret_id: str) -> str:
    """Return what to do, in order, where the key does not come from .env."""
    return STEPS[source].format(make=secret_key.MAKE_A_KEY, until=until, secret_id=secret_id)


def last_day(today: date, session_lifetime_s: int) -> date:
    """Return the day by whose end every session signed today is forgotten anyway."""
    return today + timedelta(days=-(-session_lifetime_s // DAY_S))


def rotate(path: str, today: date, until: date, *, compromised: bool, prune: bool) -> Rotated:
    """Put a new key into the .env at `path`, and the old one among its fallbacks.

    The old key counts until the first start after `until` (UTC); with `compromised` it is dropped,
    as is every fallback.
    With `prune`, fallbacks whose day is over before `today` go as well.
    Raises CannotRotateError, with the file as it was.
    """
    with env_file.locked(path):
        text = env_file.read(path)
        bindings = list(parse_stream(io.StringIO(text, newline="")))
        old = _value(bindings, "SECRET_KEY")
        if not old:
            raise CannotRotateError("There is no SECRET_KEY yet: uv run flask secret-key create")
        before = _value(bindings, FALLBACKS) or ""
        entries = [entry for entry in map(str.strip, before.split(",")) if entry]
        over = [entry for entry in entries if prune and _is_over(entry, today)]
        # Whoever has read the file has every key in it.
        kept = [] if compromised else [entry for entry in entries if entry not in over]
        # A key that could be guessed would stop the start as a fallback, and rightly.
        keep_old = not compromised and not secret_key.weakness(old)
        fallbacks = ",".join([*([f"{old}:{until}"] if keep_old else []), *kept])
        changed = _with(text, bindings, {"SECRET_KEY": env_file.new_key(), FALLBACKS: fallbacks})
        env_file.replace(path, changed)
    return Rotated(until if keep_old else None, len(over))


def _is_over(entry: str, today: date) -> bool:
    try:
        return date.fromisoformat(entry.partition(":")[2]) < today
    except ValueError:
        return False


def _last(bindings: list[Binding], name: str) -> int | None:
    """Return the place of the assignment that counts: the last one."""
    places = [place for place, binding in enumerate(bindings) if binding.key == name]
    return places[-1] if places else None


def _value(bindings: list[Binding], name: str) -> str | None:
    place = _last(bindings, name)
    return None if place is None else bindings[place].value


def _with(text: str, bindings: list[Binding], values: dict[str, str]) -> str:
    """Return the text with those values; every other line, and each comment, as it is."""
    lines = [binding.original.string for binding in bindings]
    for name, value in values.items():
        place = _last(bindings, name)
        if place is None:
            if value:
                after = _last(bindings, "SECRET_KEY") or 0
                end = "" if lines[after].endswith(("\n", "\r")) else "\n"
                lines[after] += f"{end}{name}={value}\n"
            continue
        head, equals, tail = lines[place].partition("=")
        old = bindings[place].value
        tail = tail.replace(old, value, 1) if old else EMPTY.sub(rf"\g<1>{value}", tail, count=1)
        lines[place] = head + equals + tail
    changed = "".join(lines)
    before = assignments(text)
    wanted = {name: value for name, value in values.items() if value or name in before}
    if assignments(changed) != {**before, **wanted}:
        raise CannotRotateError("This .env cannot be changed safely; change it by hand.")
    return changed


def assignments(text: str) -> dict[str, str | None]:
    """Return what a .env holds, as python-dotenv reads it, without expanding anything."""
    return dotenv_values(stream=io.StringIO(text, newline=""), interpolate=False)
