import subprocess

from shmcreds import RefreshableSession

session = RefreshableSession(
    assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
)
with session.export():
    # Every library here, in forked workers, and in programs that start here:
    variables = subprocess.run(["env"], stdout=subprocess.PIPE, text=True, check=True).stdout
    print("AWS_CONTAINER_CREDENTIALS_FULL_URI" in variables)
