"""The networks of the paper as Caffe has them, and readers of their published files."""
