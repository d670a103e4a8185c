"""
Every benchmark imports this before the package: what runs is the checkout's code, whose commit is recorded, whatever is
installed.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
