"""php-fpm.conf: eight workers that ask the endpoint as an SDK does: one key, of one call of STS. And why its lines are
there: without them the workers know no endpoint."""

import glob
import json
import os
import pathlib
import subprocess
import tempfile

from deployment import EXAMPLES, EXEC, KEYS, Running, assumed, moto, plain
from moto_aws import LIMIT, free_port, until

WORKERS = 8
# No SDK for PHP is at hand; this is how it asks.
SCRIPT = """<?php
$uri = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
$token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
$options = ["http" => ["header" => "Authorization: $token"]];
$set = $uri ? json_decode(file_get_contents($uri, false, stream_context_create($options)), true) : [];
echo json_encode(["pid" => getmypid(), "key" => $set["AccessKeyId"] ?? null]);
"""
# Its name has its version in it.
FPM = sorted(glob.glob("/usr/sbin/php-fpm*"))[-1]


def ask(port, script):
    """The answer of a worker, by FastCGI."""
    variables = {"SCRIPT_FILENAME": script, "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
    command = ["cgi-fcgi", "-bind", "-connect", f"127.0.0.1:{port}"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=LIMIT)
    _, _, body = done.stdout.partition("\n\n")
    return json.loads(body) if body else None


def answers(aws, config, script):
    """The keys that the workers have, when every one of them has answered."""
    port = free_port()
    folder = os.path.dirname(script)
    own = f"{folder}/fpm-{port}.conf"
    # Nobody but root can change the user.
    user = config if os.geteuid() == 0 else config.replace("user = www-data", "").replace("group = www-data", "")
    pathlib.Path(own).write_text(user.replace(":9000", f":{port}"))
    keys = {}

    def asked():
        answer = ask(port, script)
        if answer:
            keys[answer["pid"]] = answer["key"]
        return len(keys) == WORKERS

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with Running([*EXEC, FPM, "-F", "-y", own], env=plain(aws) | KEYS, **quiet):
        until("every worker of php-fpm answers", asked)
    return set(keys.values())


def main():
    config = (EXAMPLES / "php-fpm.conf").read_text()
    bare = "".join(line for line in config.splitlines(True) if not line.startswith("env["))
    assert bare != config
    with moto() as aws, tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        script = f"{folder}/index.php"
        pathlib.Path(script).write_text(SCRIPT)
        found = []
        forms = aws.recorded(lambda: found.extend(answers(aws, config, script)))
        assert assumed(forms) == ["AssumeRole"], forms
        assert len(found) == 1 and found[0].startswith("ASIA"), found
        assert answers(aws, bare, script) == {None}
        [key] = answers(aws, bare + "clear_env = no\n", script)
        assert key.startswith("ASIA"), key
    print(f"php-fpm: {WORKERS} workers, 1 call of STS, 1 key; without the lines of env[…] none")


main()
