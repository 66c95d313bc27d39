"""Memory: every candidate, score and cost of every search, in one database. See README.md beside this file."""
