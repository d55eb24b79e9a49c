"""Which files of an author's code this worker has imported, for `garrison diff`.

Files of installed packages, of Python and of garrison are left out: their versions say when they
change. So is what the launcher had imported before: it looks at its own files.
"""

import os
import sys
import sysconfig
from typing import Any

from garrison.ipc.messages import CodeFile, encodable

FILES_MOST = 256
INSTALLED = tuple(
    dict.fromkeys(
        f"{path}{os.sep}"
        for key, path in sysconfig.get_paths().items()
        if key in {"stdlib", "platstdlib", "purelib", "platlib"}
    )
)

_inherited = 0  # modules that this process had when it was forked


def note_inherited() -> None:
    """Note that everything that is imported by now is the launcher's."""
    global _inherited
    _inherited = len(sys.modules)


def imported_files() -> tuple[CodeFile, ...]:
    """Return the files that were imported since, as they are on disk now; at most 256."""
    found: list[CodeFile] = []
    # Backwards: each module that is looked at becomes a page of this process's own.
    newest = zip(reversed(sys.modules.values()), range(len(sys.modules) - _inherited), strict=False)
    for module, _ in newest:
        path = _author_file(module)
        if path and len(found) < FILES_MOST:
            try:
                stat = os.stat(path)  # noqa: PTH116 (a Path interns each part of it)
            except OSError:
                continue
            found.append(CodeFile(encodable(path), stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(found, key=lambda one: one.path))


def _author_file(module: Any) -> str:
    """Return the file of a module, if it is code of an author's own; else an empty text."""
    path, name = getattr(module, "__file__", None), getattr(module, "__name__", "")
    if not isinstance(path, str) or not os.path.isabs(path):  # noqa: PTH117
        return ""
    is_own = isinstance(name, str) and (name == "garrison" or name.startswith("garrison."))
    return "" if is_own or path.startswith(INSTALLED) else path
