"""What is run by hand, and what a test holds to its result."""
