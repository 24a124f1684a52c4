"""Make a stolen database and a guessed password worth little (ASVS 6.2, NIST SP 800-63B-4).

argon2id with OWASP's parameters, and the same work for every failure, so that time does not tell
whether there is such an account.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 12, 256  # characters
# Of a password made of names, this many other letters and digits have to be left.
FEWEST_OF_ITS_OWN = 6

# OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

Check = Callable[[str, Iterable[str]], str | None]


def weakness(password: str, names: Iterable[str]) -> str | None:
    """Return why a new password is refused, as a sentence, or None if it is not.

    `names` are the site's and the user's own.
    """
    normal = _normal(password)
    return next(filter(None, (check(normal, names) for check in CHECKS)), None)


def make_hash(password: str) -> str:
    """Return the hash to store."""
    return HASHER.hash(_bytes(password))


def is_right(stored: str | None, password: str) -> bool:
    """Return whether a password is the stored one; without a stored one, after the same work."""
    too_long = len(_normal(password)) > LONGEST
    try:
        right = HASHER.verify(stored or _nobodys_hash(), b"" if too_long else _bytes(password))
    except (VerificationError, InvalidHashError):
        return False
    return right and stored is not None and not too_long


def is_outdated(stored: str) -> bool:
    """Return whether HASHER has changed since this hash was made."""
    return HASHER.check_needs_rehash(stored)


def _length(password: str, _names: Iterable[str]) -> str | None:
    if SHORTEST <= len(password) <= LONGEST:
        return None
    return f"Please use {SHORTEST} to {LONGEST} characters."


def _common(password: str, _names: Iterable[str]) -> str | None:
    if password.casefold() not in _common_passwords():
        return None
    return "This is one of the passwords that are tried first. Please use another."


def _names(password: str, names: Iterable[str]) -> str | None:
    rest = _squeezed(password)
    parts = {part for name in names for part in (name, *re.split(r"[\W_]+", name))}
    for part in sorted(map(_squeezed, parts), key=len, reverse=True):
        rest = rest.replace(part, "") if len(part) > 2 else rest
    if len(rest) >= FEWEST_OF_ITS_OWN or rest == _squeezed(password):
        return None
    return "This is made of your name or ours. Please use another."


# A new password has to pass them all. Add yours here: docs/security/sign-in.md shows one that asks
# a service.
CHECKS: tuple[Check, ...] = (_length, _common, _names)


def _normal(password: str) -> str:
    """Return the form that counts: two keyboards that write one password differently agree."""
    return unicodedata.normalize("NFKC", password)


def _bytes(password: str) -> bytes:
    return _normal(password).encode("utf-8", "surrogatepass")  # JSON can hold half a character


def _squeezed(text: str) -> str:
    """Return letters and digits alone, in lower case."""
    return "".join(filter(str.isalnum, _normal(text).casefold()))


@cache
def _nobodys_hash() -> str:
    return HASHER.hash("nobody has this password")


@cache
def _common_passwords() -> frozenset[str]:
    lines = Path(__file__).with_name("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))
