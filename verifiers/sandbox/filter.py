"""The system calls that a sandboxed program may make: a seccomp filter as bytes, for `bwrap --seccomp`.

bubblewrap sets no filter of its own. Namespaces, dropped capabilities and limits hold most of what is refused here already;
the filter takes away what they do not hold: the kernel's keyrings, which no namespace covers; sockets of other families than
AF_UNIX (a virtual machine's AF_VSOCK is not held by a network namespace); memory that RLIMIT_AS does not count (memfd, System
V shared memory); and the calls in which defects of the kernel were found most often (bpf, io_uring, userfaultfd, ptrace).
Calls that are newer than this list get "no such call", which C libraries are written for.

The program is assembled here, so that no library is needed: see seccomp(2) and linux/filter.h.
"""

from __future__ import annotations

import errno
import platform
import struct

NEWEST = 451  # cachestat: what was added later is unknown here
CLONE_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_UNIX = 1

# name, number on x86_64, number on aarch64; - = the machine has no such call
_TABLE = """
add_key 248 217, request_key 249 218, keyctl 250 219, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282,
fanotify_init 300 262, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, ptrace 101 117,
process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, kcmp 312 272, pidfd_getfd 438 438,
lookup_dcookie 212 18, syslog 103 116, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51,
move_mount 429 429, open_tree 428 428, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433,
mount_setattr 442 442, unshare 272 97, setns 308 268, open_by_handle_at 304 265, name_to_handle_at 303 264,
quotactl 179 60, quotactl_fd 443 443, swapon 167 224, swapoff 168 225, acct 163 89, reboot 169 142, kexec_load 246 104,
kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106, nfsservctl 180 42,
settimeofday 164 170, clock_settime 227 112, clock_adjtime 305 266, adjtimex 159 171, sethostname 170 161,
setdomainname 171 162, vhangup 153 58, personality 135 92, mbind 237 235, set_mempolicy 238 237, migrate_pages 256 238,
move_pages 279 239, memfd_create 319 279, memfd_secret 447 447, shmget 29 194, msgget 68 186, mq_open 240 180,
vmsplice 278 75, iopl 172 -, ioperm 173 -, modify_ldt 154 -, uselib 134 -
"""
REFUSED = {name: (x, arm) for name, x, arm in map(str.split, _TABLE.split(","))}
# name -> numbers, of calls that are allowed by their first argument, or never
CLONE, CLONE3, SOCKET, SOCKETPAIR = (56, 220), (435, 435), (41, 198), (53, 199)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # machine -> column above, AUDIT_ARCH

LOAD, EQUAL, GREATER, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06  # BPF's operations
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data (the low half of an argument)
KILL, ALLOW, FAIL = 0x80000000, 0x7FFF0000, 0x00050000


def known(machine: str | None = None) -> bool:
    """Whether there is a filter for this machine (its own by default)."""
    return (machine or platform.machine()) in MACHINES


def program(machine: str | None = None) -> bytes:
    """The filter for a machine (its own by default). Raises KeyError for one that has none."""
    column, architecture = MACHINES[machine or platform.machine()]
    code = [_load(ARCHITECTURE), _unless(EQUAL, architecture, KILL), _load(NUMBER)]
    if column == 0:
        code.append(_when(AT_LEAST, 0x40000000, KILL))  # the x32 calls, numbered anew
    code.append(_when(GREATER, NEWEST, FAIL | errno.ENOSYS))
    code.append(_when(EQUAL, CLONE3[column], FAIL | errno.ENOSYS))  # its flags are in memory, where no filter can look
    for numbers in REFUSED.values():
        if numbers[column] != "-":
            code.append(_when(EQUAL, int(numbers[column]), FAIL | errno.EPERM))
    code.append(_argued(CLONE[column], _when(ANY_BIT, CLONE_NAMESPACES, FAIL | errno.EPERM)))
    for each in (SOCKET, SOCKETPAIR):
        code.append(_argued(each[column], _unless(EQUAL, AF_UNIX, FAIL | errno.EAFNOSUPPORT)))
    return b"".join(code) + _step(RETURN, 0, 0, ALLOW)


def _step(operation: int, then: int, otherwise: int, value: int) -> bytes:
    """One instruction; `then` and `otherwise` are how many of the next to skip."""
    return struct.pack("=HBBI", operation, then, otherwise, value)


def _load(offset: int) -> bytes:
    return _step(LOAD, 0, 0, offset)


def _when(test: int, value: int, verdict: int) -> bytes:
    return _step(test, 0, 1, value) + _step(RETURN, 0, 0, verdict)


def _unless(test: int, value: int, verdict: int) -> bytes:
    return _step(test, 1, 0, value) + _step(RETURN, 0, 0, verdict)


def _argued(number: int, check: bytes) -> bytes:
    """A check of the first argument of one call; it ends with the number loaded again."""
    body = _load(FIRST_ARGUMENT) + check + _step(RETURN, 0, 0, ALLOW)
    return _step(EQUAL, 0, len(body) // 8, number) + body


__all__ = ["MACHINES", "REFUSED", "known", "program"]
