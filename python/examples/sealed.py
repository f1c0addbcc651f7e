from shmcreds import RefreshableSession

# Before anything starts threads: the refresher is forked from this process.
session = RefreshableSession(
    assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"},
    defer_refresh=False,
    sealed=True,
)
print(session.status()["state"])
# Now fork the workers, which may drop their rights by os.setuid().
