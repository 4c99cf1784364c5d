"""``python -m tests.campaign --kills 1000``: what kills, full disks and lost inputs damage."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the campaign that the arguments ask for; return 1 where anything was damaged."""
    # Processes that commands begin read this module anew: it imports nothing by itself.
    from tests.campaign.command import campaign

    return campaign(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
