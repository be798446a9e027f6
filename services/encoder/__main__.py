"""`python -m services.encoder`: run the service."""

import sys

from services.common.bootstrap import start
from services.encoder.service import run
from services.encoder.settings import EncoderSettings

if __name__ == "__main__":
    sys.exit(start(EncoderSettings, run))
