from shmcreds import RefreshableSession

session = RefreshableSession(
    assume_role_kwargs={
        "RoleArn": "arn:aws:iam::123456789012:role/app",
        "SerialNumber": "arn:aws:iam::123456789012:mfa/me",
    },
    # Asked once for each fetch, for all processes. A function that returns the code works, too.
    mfa_token_provider=["echo", "123456"],
)
print(session.whoami()["Arn"])
