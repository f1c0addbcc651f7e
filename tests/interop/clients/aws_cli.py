"""Runs the AWS CLI once: prints the access key that it signs with, as its own log of requests shows it.

usage: aws_cli.py AWS
"""

import re
import subprocess
import sys

command = [sys.argv[1], "--debug", "s3api", "list-buckets"]
done = subprocess.run(command, capture_output=True, text=True)
keys = re.findall(r"Credential=(ASIA\w+)", done.stderr)
if done.returncode != 0 or not keys:
    sys.exit(f"aws ended with {done.returncode}: {done.stderr[-2000:]}")
# In one write, since eight of them share a pipe: `print` makes two where Python does not buffer.
sys.stdout.write(f"{keys[-1]}\n")
