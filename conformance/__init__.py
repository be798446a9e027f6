"""Exports every case of the corpus and reads back what came out: `make conformance`."""
