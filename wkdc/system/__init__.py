"""Files, devices and units."""
