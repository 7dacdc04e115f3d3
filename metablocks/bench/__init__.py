"""The bench: a case goes to a fresh worker, is timed by one clock, and comes back as a record."""
