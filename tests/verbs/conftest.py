"""Makes ``own`` importable by its name, as it is for who stands in its folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
