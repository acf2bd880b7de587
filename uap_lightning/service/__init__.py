"""A guard behind a port: images come in by HTTP, answers go out."""
