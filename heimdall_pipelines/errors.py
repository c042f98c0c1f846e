"""Base classes of all errors for people; each module derives its own."""


class HeimdallError(Exception):
    """An error that a person can act on: the message says what, where and what to do.

    The command line prints it without a traceback and exits with code 1.
    """


class UnavailableError(HeimdallError):
    """A server (PostgreSQL, S3) could not be reached or closed the connection; the same call may succeed later."""
