"""Keeps freed memory in the process: glibc's malloc without a system call for each large tensor.

By default glibc maps large blocks anew (above 32 MB always) and hands them and the free end of its
heap back, so that each update of a large network faults its memory in again, page by page.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3), from glibc's malloc.h."""


def keep_memory() -> bool:
    """Serve large blocks from the heap and never give its end back; for processes on a CPU.

    The process then stays as large as it ever was. Does nothing where the C library is not glibc.

    Returns:
        Whether the allocator took it.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))
