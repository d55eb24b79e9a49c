"""Starts a program that outlives its starter, with a session of its own.

`python -m garrison.supervisor.placing.detached PROGRAM ARGUMENT…` ends at once.
"""

import subprocess
import sys


def main() -> None:
    """Start the program of the command line."""
    subprocess.Popen(sys.argv[1:], start_new_session=True)


if __name__ == "__main__":
    main()
