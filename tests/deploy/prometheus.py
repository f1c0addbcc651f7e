"""examples/deploy/prometheus: the rules are valid, their unit tests pass, and the dashboard's expressions are valid, too."""

import json
import pathlib
import subprocess
import tempfile

import yaml

from deployment import EXAMPLES
from moto_aws import LIMIT

FOLDER = EXAMPLES / "prometheus"


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=LIMIT, cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def check_dashboard():
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    expressions = [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "rules.yaml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        promtool("check", "rules", str(file))
    return len(expressions)


def main():
    promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts_test.yaml")
    alerts = {rule["alert"] for rule in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]}
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == alerts, f"no test in which it fires: {alerts - fired}"
    print(f"prometheus: {len(alerts)} alerts, each with a test in which it fires; {check_dashboard()} expressions of the dashboard")


main()
