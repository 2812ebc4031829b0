"""Takes the network from a process that is about to read what strangers sent."""

from __future__ import annotations

import ctypes

# Linux: <sched.h>, <sys/prctl.h>, <linux/capability.h>.
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_NO_NEW_PRIVILEGES = 38
_CAPABILITIES_3 = 0x20080522


def leave_the_network() -> bool:
    """From now on this process, and what it starts, has a network of its own in which there is nothing, not even loopback.

    Only before the first thread. False where the kernel does not allow it (a container without user namespaces) or is
    another one than Linux; then nothing has changed.
    """
    try:
        libc = ctypes.CDLL(None)
        if libc.unshare(_NEW_USER | _NEW_NETWORK):
            return False
        # A new user namespace makes its first process mighty inside; nothing here needs that.
        header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.capset(header, none)
    except (OSError, AttributeError, TypeError):
        return False
    return True
