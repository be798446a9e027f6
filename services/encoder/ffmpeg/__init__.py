"""FFmpeg as a child process, and what its last words mean."""
