"""What wkdc asks of the machine: files, devices, units."""
