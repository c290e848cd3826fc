"""The tests of this folder share the hosts' networks and loaders."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
