"""Making a name on a file system exactly once: a hard link, or a rename that replaces nothing where links are refused.

Owns the two system calls and their errors. Volumes of SMB, FAT and some network file systems have no hard links.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV}
_NO_FLAG = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def make_name(temporary: str, name: str, folder: int | None) -> None:
    """Give a finished file its name, in the same directory; the temporary name may be gone afterwards.

    `folder` is a descriptor that both are relative to, None where they are paths. FileExistsError if the name is taken;
    ENOTSUP means that this volume has no way to make a name only once.
    """
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        rename_new(temporary, name, folder)


def rename_new(old: str, new: str, folder: int | None = None) -> None:
    """Rename a file or a directory; FileExistsError if the new name is taken.

    ENOTSUP means that this volume, or this system, cannot rename without replacing.
    """
    at = _AT_FDCWD if folder is None else folder
    rename = _renameat2()
    if rename is not None and rename(at, os.fsencode(old), at, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return
    number = errno.ENOSYS if rename is None else ctypes.get_errno()
    if number in _NO_FLAG:
        raise OSError(errno.ENOTSUP, "neither hard links nor renames that replace nothing are to be had there", new)
    raise OSError(number, os.strerror(number), new)


@cache
def _renameat2() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
