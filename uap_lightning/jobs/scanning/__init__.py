"""How a scan reads, compares and writes a folder of images, here or on many machines."""
