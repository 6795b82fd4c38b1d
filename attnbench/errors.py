"""The one error that the command line turns into a sentence. Nothing of attnbench stands below this file."""

from __future__ import annotations


class AttnbenchError(Exception):
    """Anything that the user can fix: the message gives the rule, the values and the remedy."""
