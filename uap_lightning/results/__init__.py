"""What was found: metrics, ``results.json``, and the tables and pages rendered from it."""
