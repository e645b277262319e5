"""For all tests, and the processes that they start."""

import os
import signal

# Two test processes share two cores: OpenMP's waiting threads would spin in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what it puts in the background so, and every process of a test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
