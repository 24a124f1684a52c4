"""Be a provider for whoever develops: python -m tests.provider."""

import argparse
import signal
import time
from contextlib import suppress

from tests.provider import Provider


def main() -> None:
    """Sign anybody in as one address, until the process is told to end."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--email", default="ada@example.com")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    provider = Provider(options.port, "in-development")
    provider.subject = provider.email = options.email
    with suppress(KeyboardInterrupt):
        provider.start()
        print(f"APP_OIDC_ISSUER={provider.issuer}")
        print(f"APP_OIDC_CLIENT_ID={provider.client_id}")
        print(f"OIDC_CLIENT_SECRET={provider.client_secret}", flush=True)
        while True:
            time.sleep(3600)
    provider.stop()


if __name__ == "__main__":
    main()
