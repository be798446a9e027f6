"""Speed and resources, measured beside named alternatives; docs/bench.md says how to read them."""

import os

# Children are started beside live channels; read when grpc is imported (docs/decisions.md).
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
