"""EncoderService: from a source and a plan to a finished file."""
