"""Sources of an export, from S3 to a loopback address that child processes read."""
