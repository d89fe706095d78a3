"""`python -m wkdc` is `wkdc`."""

from wkdc.cli import main

main()
