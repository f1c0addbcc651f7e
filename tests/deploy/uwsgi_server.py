"""uwsgi.ini: eight workers, a reload, a killed worker: one call of STS, one key.

usage: uwsgi_server.py VENV SHMCREDS [UWSGI]

pyuwsgi, which is the default here, is a module of Python: it cannot start itself anew, and is not reloaded.
"""

import signal
import subprocess
import sys

from deployment import CLIENTS, EXAMPLES, VENV, moto
from servers import serve


def main():
    uwsgi = sys.argv[3:] or [f"{VENV}/bin/pyuwsgi"]
    reload = signal.SIGHUP if sys.argv[3:] else None
    command = [*uwsgi, "--ini", str(EXAMPLES / "uwsgi.ini"), "--chdir", str(CLIENTS)]
    with moto() as aws:
        serve(aws, [*command, "--wsgi", "wsgi:app", "--disable-logging"], reload=reload, stderr=subprocess.DEVNULL)
    print(f"uWSGI: 8 workers,{' reloaded,' if reload else ''} one killed: 1 call of STS, 1 key")


main()
