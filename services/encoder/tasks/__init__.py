"""What the encoder does for a task: encode, join, copy, measure."""
