"""The user that PostgreSQL runs as when root starts it (it refuses to run as root), and what that user can access."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

UNPRIVILEGED_NAMES = ("postgres", "nobody")  # the first that the machine has is used


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


class PopenIdentity(TypedDict, total=False):
    """The arguments of ``subprocess.Popen`` that choose the user."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged_account() -> Account | None:
    """Return the first of `UNPRIVILEGED_NAMES` that exists, if this process runs as root; None otherwise."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_NAMES[0])
    except KeyError:
        entry = pwd.getpwnam(UNPRIVILEGED_NAMES[1])
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def popen_identity(account: Account | None) -> PopenIdentity:
    """Return the arguments that make ``subprocess.Popen`` run as the account; empty for the current user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def can_reach(account: Account, path: Path) -> bool:
    """Whether the account may enter the folder, or run the program, at ``path``, according to the kernel."""
    test = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", 'test -x "$0"', path], cwd="/", check=False, **popen_identity(account)
    )
    return test.returncode == 0
