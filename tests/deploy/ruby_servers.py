"""puma.rb and unicorn.rb: eight workers, a reload, a killed worker: one call of STS, one key."""

import signal
import subprocess

from deployment import CLIENTS, EXAMPLES, EXEC, moto
from servers import serve

APP = str(CLIENTS / "programs/config.ru")
SERVERS = {
    "puma": (["puma", "-C", str(EXAMPLES / "puma.rb"), APP], signal.SIGUSR1),
    "unicorn": (["unicorn", "-c", str(EXAMPLES / "unicorn.rb"), APP], signal.SIGHUP),
}
# The SDK that Debian has knows no endpoint at a whole address.
UNDER = [*EXEC[:-1], "--credential-process", "--"]


def main():
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with moto() as aws:
        for name, (command, reload) in SERVERS.items():
            serve(aws, command, reload=reload, under=UNDER, **quiet)
            print(f"{name}: 8 workers, reloaded, one killed: 1 call of STS, 1 key")


main()
