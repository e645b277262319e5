"""For all tests."""

import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what it puts in the background so, and every process of a test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
