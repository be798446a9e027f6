"""The services: api, encoder, storage, what they share, and a local cluster of them."""

import os

# Children started under a live grpc.aio server crash unless fork support is
# off before grpc is first imported; every service comes through this module.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
