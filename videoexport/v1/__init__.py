"""Generated from protos/videoexport/v1 by `make protos`; never edited by hand."""
