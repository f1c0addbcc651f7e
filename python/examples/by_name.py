import shmcreds


def source():
    return {
        "access_key": "ASIAEXAMPLE",
        "secret_key": "secret",
        "token": "token",
        "expiry_time": "2099-01-01T00:00:00Z",
    }


# The process that is elected calls `source`; all others of this user read.
session = shmcreds.SharedSession.attach_or_create("web", source)
print(session.credentials().access_key, session.status()["state"])

# In any other process, a plain boto3 session:
s3 = shmcreds.boto3_session("web").client("s3", region_name="us-east-1")
print(s3.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})[:24])
