"""Put keys into .env without losing a line of it, whenever the process is killed.

The standard library alone: the template's hook runs this file where Flask is not installed.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HEADER = "# Secrets of this machine, for this machine. Never commit this file; see .env.example.\n"
# Assigned anywhere a line begins; a value of "" or '' is as good as none, as for python-dotenv.
KEY_LINE = re.compile(
    r"""(?:^|[\r\n]) [^\S\r\n]* (?:export\s+)? (['"]?)SECRET_KEY\1 \s* = [^\S\r\n]*
    (?! ['"]{2} [^\S\r\n]* (?:\#|[\r\n]|$) ) \S""",
    re.VERBOSE,
)


def new_key() -> str:
    """Return 48 random bytes as 64 characters of A-Z a-z 0-9 _ - (ASVS 11.5.1)."""
    return secrets.token_urlsafe(48)


def seems_to_have_key(text: str) -> bool:
    """Return whether some line looks like a SECRET_KEY; python-dotenv may know better."""
    return KEY_LINE.search(text) is not None


def create(path: str = ".env", has_key: Callable[[str], bool] = seems_to_have_key) -> bool:
    """Add a SECRET_KEY to the file where it has none; return whether one was added.

    A new file is readable by its owner alone. Lines that are there stay, to the byte.
    """
    with locked(path):
        text = read(path)
        if has_key(text):
            return False
        separator = "" if not text or text.endswith(("\n", "\r")) else "\n"
        replace(path, f"{text or HEADER}{separator}SECRET_KEY={new_key()}\n")
        return True


def read(path: str) -> str:
    """Return the text of the file, empty if there is none; bytes that are no text survive."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def replace(path: str, text: str) -> None:
    """Write the file anew, whole or not at all; mode and owner stay, a link stays a link.

    What is written is complete beside the file (.env.new, ignored by git) before it takes its name.
    """
    path = os.path.realpath(path)
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)  # of somebody who was killed
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    with suppress(FileNotFoundError):
        before = os.stat(path)
        if sys.platform != "win32":
            os.chown(new, before.st_uid, before.st_gid)
        os.chmod(new, before.st_mode & 0o777)
    os.replace(new, path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Let one process at a time change the file; where the system has no such lock, do without."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    directory = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)  # gives the lock back
