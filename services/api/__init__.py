"""ExportService: what callers talk to, and the keeper of every export and task."""
