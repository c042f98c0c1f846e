"""Location of PostgreSQL's files if the unprivileged user cannot access the project, such as below /root.

The mode of existing folders stays unchanged: the files are in /var/lib/heimdall instead.
"""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from heimdall_pipelines.local.account import Account, can_reach
from heimdall_pipelines.local.processes import LocalServerError

OUTSIDE = Path("/var/lib/heimdall")

_logger = logging.getLogger(__name__)


def make_folder(folder: Path, mode: int) -> None:
    """Make the folder with exactly this mode; an existing folder keeps its mode."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(mode)  # not mkdir(mode=…), which the umask narrows


def make_reachable_folder(folder: Path, account: Account | None) -> None:
    """Make the folder; if the account cannot reach it, make one in /var/lib/heimdall and a symbolic link to it.

    Parameters
    ----------
    folder
        Stays unchanged if it exists.
    account
        The unprivileged user that a server will run as, None for the present user.

    Raises
    ------
    LocalServerError
        The folder is no longer reachable, or its link is broken.
    """
    if folder.is_symlink() and not folder.exists():
        raise LocalServerError(
            f"{folder} links to {folder.readlink()}, which is gone: remove the link to start with an empty database"
        )
    if account is None:
        make_folder(folder, 0o700)
        return
    if not folder.exists():
        make_folder(folder, 0o711)
        if not can_reach(account, folder):
            folder.rmdir()
            folder.symlink_to(_folder_outside(folder))
            _logger.warning(
                "%s is in %s, since the user %s cannot access it here", folder, folder.resolve(), account.name
            )
    if not can_reach(account, folder.resolve()):
        raise LocalServerError(
            f"the user {account.name} can no longer reach {folder.resolve()}: "
            "let others pass the folders above it again (chmod o+x), or move it away to start with an empty database"
        )


def _folder_outside(folder: Path) -> Path:
    outside = OUTSIDE / hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    make_folder(OUTSIDE, 0o755)
    if outside.exists():  # its project was deleted, and a new one created at the same path
        kept = Path(tempfile.mkdtemp(prefix=f"{outside.name}-before-", dir=OUTSIDE))
        outside.rename(kept)
        _logger.warning("data of an earlier %s is kept as %s; remove it if you do not need it", folder, kept)
    make_folder(outside, 0o711)
    return outside


def copy_for_everyone(parts: Iterable[Path], name: str) -> Path:
    """Copy files and folders once to a place that every user can reach; returns that place.

    Parameters
    ----------
    parts
        What to copy, side by side.
    name
        Name of the copy; later calls with the same name find it.
    """
    copy = OUTSIDE / name
    if copy.exists():
        return copy
    make_folder(OUTSIDE, 0o755)
    draft = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=OUTSIDE))
    for part in parts:
        shutil.copytree(part, draft / part.name, symlinks=True)
    for path in [draft, *draft.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    try:
        draft.rename(copy)
    except OSError:  # another process was faster
        shutil.rmtree(draft)
        if not copy.exists():
            raise
    _logger.info("copied %s to %s, where the server's user can reach it", name, copy)
    return copy
