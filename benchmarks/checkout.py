"""
Every benchmark imports this before the package, so that the checkout's code is used, whose commit is recorded, and not an
installed one.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
