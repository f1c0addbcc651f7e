"""gunicorn.conf.py, with sync and gevent workers, and with the application loaded before the fork: eight workers, a
reload, a killed worker: one call of STS, one key."""

import subprocess

from deployment import CLIENTS, EXAMPLES, VENV, moto
from moto_aws import LIMIT, free_port
from servers import environment, serve

GUNICORN = [f"{VENV}/bin/gunicorn", "-c", str(EXAMPLES / "gunicorn.conf.py"), "--chdir", str(CLIENTS)]
GUNICORN += ["--log-level", "error"]
MODES = {"sync": [], "gevent": ["--worker-class", "gevent"], "preload": ["--preload"]}


def main():
    with moto() as aws:
        for mode, options in MODES.items():
            serve(aws, [*GUNICORN, *options, "wsgi:app"])
            print(f"gunicorn, {mode}: 8 workers, reloaded, one killed: 1 call of STS, 1 key")
        alone = subprocess.run(
            [*GUNICORN, "wsgi:app"], env=environment(aws, free_port()), capture_output=True, text=True, timeout=LIMIT
        )
        assert alone.returncode != 0 and "shmcreds exec" in alone.stderr, alone


main()
