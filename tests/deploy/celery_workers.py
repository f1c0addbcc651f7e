"""celery_app.py: eight processes that are replaced after each task: one call of STS, one key."""

import json
import os
import subprocess
import tempfile

from deployment import EXAMPLES, EXEC, KEYS, VENV, Running, assumed, moto, plain
from moto_aws import LIMIT, until

# A task that says who did it, with which key; each process does one.
TASKS = """
import os
import celery_app
from celery_app import app

app.conf.worker_max_tasks_per_child = 1
app.conf.broker_transport_options = {"data_folder_in": os.environ["FOLDER"], "data_folder_out": os.environ["FOLDER"]}

@app.task
def who():
    celery_app.buckets()
    return [os.getpid(), celery_app.s3._request_signer._credentials.access_key]
"""
SEND = """
import json, sys, trial
print(json.dumps([each.get(timeout=50) for each in [trial.who.delay() for _ in range(24)]]))
"""


def main():
    with moto() as aws, tempfile.TemporaryDirectory() as folder:
        for name in ("queue", "results"):
            os.mkdir(f"{folder}/{name}")
        with open(f"{folder}/trial.py", "w") as file:
            file.write(TASKS)
        environment = plain(aws) | KEYS | {
            "BROKER_URL": "filesystem://",
            "RESULT_BACKEND": f"file://{folder}/results",
            "FOLDER": f"{folder}/queue",
            "PYTHONPATH": f"{folder}:{EXAMPLES}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [*EXEC, f"{VENV}/bin/celery", "-A", "trial", "worker", "--concurrency", "8", "--loglevel", "ERROR"]
        answers = []

        def run():
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with Running(command, env=environment, cwd=folder, **quiet):
                sent = subprocess.check_output(
                    [f"{VENV}/bin/python", "-c", SEND], env=environment, cwd=folder, text=True, timeout=LIMIT
                )
                answers.append(sent)

        forms = aws.recorded(run)
        pids, keys = zip(*json.loads(answers[0]))
        assert len(set(pids)) == 24, pids
        assert len(set(keys)) == 1 and keys[0].startswith("ASIA"), set(keys)
        assert assumed(forms) == ["AssumeRole"], assumed(forms)
    print("Celery: 8 processes, replaced after each of 24 tasks: 1 call of STS, 1 key")


main()
