"""The harnesses of this folder are imported as `torture.*`, by the tests and by run.py alike."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
