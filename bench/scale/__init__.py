"""The cluster with more encoders than this machine has: python -m bench.scale.

The API, NATS, Postgres and the StorageService are real, and so is the encoders' code from the
pull of a task to its acknowledgement; only FFmpeg is replaced, by a sleep and a tiny file.
docs/scaling.md says what the figures mean and what they were.
"""
