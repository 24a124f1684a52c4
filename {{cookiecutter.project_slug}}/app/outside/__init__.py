"""The application as a stranger sees it: asked over real sockets, by tests/live as well."""
