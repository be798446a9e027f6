"""Reading media with PyAV, in short-lived child processes."""
