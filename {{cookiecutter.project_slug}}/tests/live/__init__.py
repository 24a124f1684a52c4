"""What only real programs decide, over real sockets. Type: uv run --group live pytest."""
