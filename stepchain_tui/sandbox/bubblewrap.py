"""What bubblewrap is told: which parts of this machine a snippet sees, and as whom it runs.

It sees this interpreter's own files and packages, read-only and under names that say nothing of their owner, the
system's libraries, and folders of its own in memory. Nobody's files, environment, processes or network are there.

There are two ways. Started by root, the snippet runs as a user id that nobody else has; started by anybody else, in a
user namespace.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.sandbox.seccomp import seccomp_program

FOLDER_LIMIT = 16 * 1024 * 1024
"""Bytes that /tmp and /dev/shm of a snippet hold, each; and of one file."""
_NOBODY = 65534
_FIRST_USER, _USERS = 0x60000000, 0x10000000
"""User ids that no system gives to anybody."""
_INSTALL = "Install it (`apt install bubblewrap`, `dnf install bubblewrap`), or leave `engine` out: that is monty."
_MONTY = "Leave `engine` out: the sandbox monty runs everywhere."
_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_NETWORK_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
)
"""What is needed to find and trust a server; only where network is allowed."""


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """One way to start bubblewrap here.

    Attributes:
        program: The path of `bwrap`.
        as_root: Started by root, with a user id of its own for each snippet; otherwise in a user namespace. Never
            the latter for root: the kernel does not count its processes, and they own what a machine is steered by.
    """

    program: str
    as_root: bool

    def user(self) -> int | None:
        """Return the user id for a new snippet, or None where the namespace has already given it one."""
        return _FIRST_USER + secrets.randbelow(_USERS) if self.as_root else None

    def task_limit(self, most: int) -> int:
        """Return the number at which the kernel stops a snippet's tasks, so that it has `most` of its own.

        Before Linux 5.14 it counts them together with all others of the same user.
        """
        return most if self.as_root or _kernel() >= (5, 14) else most + _tasks_of_user()

    def arguments(self, *, filter_fd: int, info_fd: int, network: bool) -> list[str]:
        """Return the command up to the program that is run inside.

        Args:
            filter_fd: Brings the filter of system calls.
            info_fd: Takes the process id of the sandbox's first process, as JSON.
            network: Leave the network of this machine to the snippet.
        """
        words = [self.program, "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        if not network:
            words.append("--unshare-net")
        if self.as_root:
            words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            words += ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
        words += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]
        for name, value in _environment().items():
            words += ["--setenv", name, value]
        words += ["--seccomp", str(filter_fd), "--info-fd", str(info_fd)]
        for folder in ("/etc", "/python", "/packages"):  # else they are for root's eyes only
            words += ["--perms", "0755", "--dir", folder]
        words += ["--ro-bind", "/usr", "/usr", *_system_folders()]
        for source, target in _python().binds:
            words += ["--ro-bind", source, target]
        words += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        for name in _NETWORK_FILES if network else ():
            words += ["--ro-bind-try", name, name]
        words += ["--proc", "/proc", "--dev", "/dev"]
        for folder in ("/tmp", "/dev/shm"):
            words += ["--perms", "1777", "--size", str(FOLDER_LIMIT), "--tmpfs", folder]
        for folder in ("/proc", "/dev", "/"):
            words += ["--remount-ro", folder]
        return [*words, "--chdir", "/tmp", "--"]

    def interpreter(self) -> list[str]:
        """Return the command that starts Python inside."""
        return [_python().executable, "-I", "-S", "-B", "-X", "utf8"]

    def packages(self) -> Sequence[str]:
        """Return the folders inside that have third-party packages."""
        return _python().packages


@dataclass(frozen=True, slots=True)
class _Python:
    """This interpreter, as it is seen inside."""

    executable: str
    packages: tuple[str, ...]
    binds: tuple[tuple[str, str], ...]


@functools.cache
def _python() -> _Python:
    """Return where the interpreter and its packages are found inside.

    Only the interpreter's own installation is shown: of a virtual environment, its packages alone, because it may lie
    in the folder of a project.
    """
    base = Path(sys.base_prefix).resolve()
    executable = Path(sys.executable).resolve()
    binds: list[tuple[str, str]] = []
    if not _is_in(base, Path("/usr")):
        binds.append((str(base), "/python"))
        if _is_in(executable, base):
            executable = Path("/python") / executable.relative_to(base)
    packages = []
    for path in dict.fromkeys(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")):
        if _is_in(path, Path("/usr")):
            packages.append(str(path))
        elif _is_in(path, base):
            packages.append(str(Path("/python") / path.relative_to(base)))
        elif path.is_dir():
            packages.append(f"/packages/{len(packages)}")
            binds.append((str(path), packages[-1]))
    return _Python(str(executable), tuple(packages), tuple(binds))


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": "/python/lib",
        # Each thread's own heap and each core's own buffers would take address space, which is what the limit counts.
        "MALLOC_ARENA_MAX": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


@functools.cache
def _system_folders() -> tuple[str, ...]:
    words = []
    for name in _SYSTEM_FOLDERS:
        folder = Path("/") / name
        if folder.is_symlink():
            words += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            words += ["--ro-bind", str(folder), str(folder)]
    return tuple(words)


def candidate() -> Bubblewrap:
    """Return the way to start bubblewrap that this machine may allow.

    Raises:
        AttemptError: There is none, as `user_error`, with the reason.
    """
    if sys.platform != "linux":
        raise unavailable("it needs Linux", _MONTY)
    program = shutil.which("bwrap")
    if program is None:
        raise unavailable("bubblewrap is not installed", _INSTALL)
    if seccomp_program() is None:
        raise unavailable(
            f"there is no filter of system calls for the processor {platform.machine()}",
            _MONTY,
        )
    base, home = Path(sys.base_prefix).resolve(), Path.home().resolve()
    if not sys.executable or base == Path("/") or _is_in(home, base):
        raise unavailable(
            f"Python is installed in {base}, which cannot be shown without showing other files too",
            "Run StepChain with a Python that has a folder of its own.",
        )
    return Bubblewrap(program, as_root=_is_real_root())


def unavailable(reason: str, hint: str) -> AttemptError:
    """Return the failure of a step that wants bubblewrap where it does not work."""
    return AttemptError(
        f"the sandbox 'bwrap' cannot be used here: {reason}",
        error_type=ErrorType.USER_ERROR,
        hint=hint,
        exception="SandboxNotAvailable",
        details={"reason": reason},
    )


def _is_real_root() -> bool:
    """Return whether this is root, whose processes the kernel never counts, not somebody called so in a namespace."""
    if os.geteuid() != 0:
        return False
    try:
        first = Path("/proc/self/uid_map").read_text(encoding="ascii").split()[:2]
    except OSError:
        return True
    return first == ["0", "0"]


def _tasks_of_user() -> int:
    """Return how many processes and threads this user has now."""
    count, user = 0, os.geteuid()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == user:
                count += process.num_threads()
    return count


def _kernel() -> tuple[int, int]:
    numbers = platform.release().split(".")
    try:
        return int(numbers[0]), int(numbers[1])
    except (IndexError, ValueError):
        return (0, 0)


def _is_in(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents
