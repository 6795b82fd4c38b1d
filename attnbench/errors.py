"""The one error that the command line turns into a sentence. Nothing of attnbench stands below this file."""

from __future__ import annotations


class AttnbenchError(Exception):
    """Anything that the user can fix: the message gives the rule, the values and the remedy.

    Attributes:
        exit_code: of the command line.
    """

    exit_code = 2


class UnfinishedError(AttnbenchError):
    """A run could not be finished through no fault of the request; the same command resumes it."""

    exit_code = 4
