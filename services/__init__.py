"""The services: api, encoder, storage, what they share, and a local cluster of them."""
