"""What bytes and numbers of media formats mean, read without a library. Pure."""
