# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a program takes, from its start to its end."""

import os
import time

QUIET = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]


def timed(*command):
    """Milliseconds; what Python's subprocess does besides would count as the program's."""
    begin = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=QUIET)
    status = os.waitpid(pid, 0)[1]
    milliseconds = (time.perf_counter() - begin) * 1000
    if status != 0:
        raise AssertionError(f"{' '.join(command)} ended with {status}")
    return milliseconds
