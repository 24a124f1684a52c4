"""The attacks on signing in."""
