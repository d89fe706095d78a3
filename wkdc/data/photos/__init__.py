"""Public-domain and CC0 photos: what the demo learns from and exports are checked on.

MANIFEST.json names author, licence and source of each.
"""

from pathlib import Path


def photo_paths() -> list[Path]:
    """All bundled photos, sorted by name."""
    return sorted(Path(__file__).parent.glob("*.jpg"))
