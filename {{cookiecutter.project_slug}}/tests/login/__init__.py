# % filter replace("by_password", "by_" ~ cookiecutter.login)
"""The attacks on signing in."""

from tests.login.by_password import EMAIL, PROVED_AT, PUBLIC, add, sign_in, signed_in

__all__ = ["EMAIL", "PROVED_AT", "PUBLIC", "add", "sign_in", "signed_in"]
# % endfilter
