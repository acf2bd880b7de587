"""The defence in use: the guard, its folder on the disk, its graph, and adapters to libraries."""
