"""`python -m services.api`: run the service; `… migrate`: bring the schema up to date."""

from __future__ import annotations

import sys

from services.api.migrate import migrate
from services.api.service import run
from services.api.settings import ApiSettings
from services.common.bootstrap import settings_or_exit, start


def main() -> int:
    """Run the command of the arguments; return the exit status."""
    if sys.argv[1:] == ["migrate"]:
        migrate(settings_or_exit(ApiSettings).database_url.get_secret_value())
        return 0
    return start(ApiSettings, run)


if __name__ == "__main__":
    sys.exit(main())
