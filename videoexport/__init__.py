"""videoexport: stubs (v1), client and command line for the export service."""
