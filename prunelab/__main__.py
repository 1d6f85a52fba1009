"""`python -m prunelab` is the `prunelab` command, for torchrun."""

from prunelab.cli import main

main()
