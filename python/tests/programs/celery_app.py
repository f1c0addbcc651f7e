"""A Celery application with a broker and results in files."""

import os
import time

import celery
from reading import read_until, session

folder = os.environ["TEST_FOLDER"]
app = celery.Celery("tests", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
made = session()


@app.task
def read(generation):
    found = read_until(made, generation)
    time.sleep(1)
    return found
