"""How each fault is done, mended, and seen to be over, by what it hits."""
