"""`python -m metablocks`."""

from metablocks.cli import main

main()
