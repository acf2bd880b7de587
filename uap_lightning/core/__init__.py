"""What every room stands on: errors, files, devices, versions, the terminal."""
