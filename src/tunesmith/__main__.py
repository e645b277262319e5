"""`python -m tunesmith` is `tunesmith`."""

from __future__ import annotations

import sys

from tunesmith.cli.main import script

if __name__ == "__main__":
    sys.exit(script())
