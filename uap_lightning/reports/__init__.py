"""Reports: result rows as tables, charts and one page, rendered from ``results.json`` alone."""
