"""The base of every error that is raised on purpose; each module derives its own beside its code."""


class HeimdallError(Exception):
    """Something a person can act on: the message says what, where and what to do.

    The command line prints it without a traceback and exits with code 1.
    """


class UnavailableError(HeimdallError):
    """A server (PostgreSQL, S3) could not be reached or broke off; the same call may succeed later."""
