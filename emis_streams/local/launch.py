"""Becomes the given command, which the kernel then signals when the starting process dies.

    python launch.py SIGNAL PARENT_PID COMMAND...

Run as a file by `process.py`, never imported: it sets the death signal on itself (kept over exec) and
so needs no code between fork and exec, which would be unsafe in a process with threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    death_signal, parent_pid, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it died before the line above
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
