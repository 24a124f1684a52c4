"""Put a random key into .env, and touch nothing else in it.

The standard library alone: the template's hook runs this file where Flask is not installed.
"""

import os
import re
import secrets

# A value of "" or '' is as good as none, as for python-dotenv.
PRESENT = re.compile(r"""^\s*(?:export\s+)?(['"]?)SECRET_KEY\1\s*=\s*(?!['"]{2}\s*(?:#|$))[^\s#]""")
HEADER = "# Secrets of this machine, for this machine. Never commit this file; see .env.example.\n"


def create(path: str = ".env") -> bool:
    """Add a SECRET_KEY to the file where it has none; return whether one was added.

    The key is 48 random bytes as 64 characters of A-Z a-z 0-9 _ - (ASVS 11.5.1).
    A new file is readable by its owner alone.
    Lines that are there stay, to the byte.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        text = ""
    if any(PRESENT.match(line) for line in text.splitlines()):
        return False
    addition = f"SECRET_KEY={secrets.token_urlsafe(48)}\n"
    if not text:
        addition = HEADER + addition
    elif not text.endswith("\n"):
        addition = "\n" + addition
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "a", encoding="utf-8", newline="") as file:
        file.write(addition)
    return True
