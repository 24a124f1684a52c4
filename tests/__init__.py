"""The template's own tests: its hooks, its rules, and every kind of project it makes."""
