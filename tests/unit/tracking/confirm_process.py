"""Registers a candidate that is registered: says whether it was cached, and whether MLflow was imported for it."""

from __future__ import annotations

import sys
from pathlib import Path

from tracked_candidate import TrackedCandidate

ref = TrackedCandidate.read(Path(sys.argv[1])).register()
print("cached" if ref.is_cached else "computed", f"mlflow={'mlflow' in sys.modules}")
