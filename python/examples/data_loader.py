# A map-style dataset, as torch.utils.data.DataLoader(Objects(...), num_workers=8) takes it.
from shmcreds import RefreshableSession


class Objects:
    def __init__(self, bucket, keys):
        self.bucket, self.keys = bucket, keys
        self.session = RefreshableSession(
            assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
        )

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        # The client is made in each worker: clients of the parent are dropped after a fork.
        s3 = self.session.client("s3")
        return s3.get_object(Bucket=self.bucket, Key=self.keys[index])["Body"].read()
