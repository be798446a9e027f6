"""StorageService: the only holder of S3 credentials."""
