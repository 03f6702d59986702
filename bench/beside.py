# SPDX-License-Identifier: BSD-2-Clause
"""beside.py: runs a program beside others that want the CPUs.

	bench/beside.py 2 COMMAND…

The others do nothing but spin, at the same priority, until it ends. Ends with its status.
"""

import os
import signal
import subprocess
import sys


def spin():
    while True:
        pass


def start():
    pid = os.fork()
    if pid == 0:
        spin()
    return pid


def main(count, *command):
    spinners = [start() for _ in range(int(count))]
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        return 127
    finally:
        for pid in spinners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
