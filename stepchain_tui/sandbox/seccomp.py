"""The system calls that a bubblewrap sandbox may not make, as the filter program that bwrap loads.

Namespaces take files, network and processes away; what is left is the kernel itself. The filter refuses what code in
a sandbox has no honest use for: looking into other processes, namespaces and mounts of its own, memory that no limit
counts, kinds of sockets that no network namespace holds (a virtual machine's host is reached by one), and the parts
of the kernel that are hard to get right. What is refused fails with EPERM, so that ordinary code goes on.
"""

from __future__ import annotations

import errno
import platform
import struct

_X86_64 = 0
_ARM_64 = 1
_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMNS = {"x86_64": _X86_64, "aarch64": _ARM_64}
_ABSENT = -1

_REFUSED: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "personality": (135, 92),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, _ABSENT),
    "ioperm": (173, _ABSENT),
    "lookup_dcookie": (212, 18),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
}
"""Each call's numbers on x86_64 and aarch64."""
_OWN_PROCESS_ONLY: dict[str, tuple[int, int]] = {
    "prlimit64": (302, 261),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
}
"""Calls whose first argument is a process: 0 is the caller. Of another one, such as the sandbox's first, they would
change the limits."""
_CLONE3 = (435, 435)
_CLONE = (56, 220)
_SOCKET = (41, 198)
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_UNIX = 1
_NETWORKS = (2, 10, 16)
"""AF_INET, AF_INET6 and AF_NETLINK: what a network namespace holds, as it does AF_UNIX."""
_X32 = 0x40000000
"""From here on calls are those of the 32-bit-pointer ABI of x86_64, which have other numbers."""

_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000


def seccomp_program(machine: str | None = None, *, network: bool = False) -> bytes | None:
    """Return the filter as the bytes that `bwrap --seccomp` reads, or None where there is none for this processor.

    Args:
        machine: The processor, as `platform.machine()` names it; None means this machine's.
        network: For a sandbox in this machine's own network: no Unix sockets, because the abstract ones of other
            programs, such as a desktop's, are part of it.
    """
    machine = machine or platform.machine()
    if machine not in _COLUMNS or struct.calcsize("P") != 8:
        return None
    column = _COLUMNS[machine]
    program = [
        _statement(_LOAD, _OFFSET_ARCHITECTURE),
        _jump(_JUMP_EQUAL, _AUDIT_ARCHITECTURES[machine], 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _OFFSET_NUMBER),
    ]
    if column == _X86_64:
        program += [_jump(_JUMP_AT_LEAST, _X32, 0, 1), _statement(_RETURN, _KILL)]
    for numbers in _REFUSED.values():
        if numbers[column] != _ABSENT:
            program += [_jump(_JUMP_EQUAL, numbers[column], 0, 1), _statement(_RETURN, _FAIL | errno.EPERM)]
    for numbers in _OWN_PROCESS_ONLY.values():
        program += [
            _jump(_JUMP_EQUAL, numbers[column], 0, 4),
            _statement(_LOAD, _OFFSET_FIRST_ARGUMENT),
            _jump(_JUMP_EQUAL, 0, 0, 1),
            _statement(_RETURN, _ALLOW),
            _statement(_RETURN, _FAIL | errno.EPERM),
        ]
    families = _NETWORKS if network else (_UNIX, *_NETWORKS)
    program += [
        # Its flags lie in memory that a filter cannot read; without it the C library falls back to clone.
        _jump(_JUMP_EQUAL, _CLONE3[column], 0, 1),
        _statement(_RETURN, _FAIL | errno.ENOSYS),
        _jump(_JUMP_EQUAL, _CLONE[column], 0, 4),
        _statement(_LOAD, _OFFSET_FIRST_ARGUMENT),
        _jump(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _statement(_RETURN, _FAIL | errno.EPERM),
        _statement(_RETURN, _ALLOW),
        _jump(_JUMP_EQUAL, _SOCKET[column], 0, 3 + len(families)),
        _statement(_LOAD, _OFFSET_FIRST_ARGUMENT),
        *(_jump(_JUMP_EQUAL, family, len(families) - place, 0) for place, family in enumerate(families)),
        _statement(_RETURN, _FAIL | errno.EAFNOSUPPORT),
        _statement(_RETURN, _ALLOW),
        _statement(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
