"""`python -m attnbench` is the command line."""

from attnbench.cli import main

main()
