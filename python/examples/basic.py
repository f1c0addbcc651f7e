from shmcreds import RefreshableSession

session = RefreshableSession(
    assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
)
s3 = session.client("s3")
print([bucket["Name"] for bucket in s3.list_buckets()["Buckets"]])
