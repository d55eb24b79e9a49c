"""The signals at which a worker writes stacks to its log, even with a blocked interpreter."""

import signal

ALL_THREADS = signal.SIGUSR1  # of 100 threads at most, the last started first
ONE_THREAD = int(signal.SIGRTMIN) + 9  # of the thread that receives it
THREADS_MOST = 100  # as `faulthandler` limits a list
