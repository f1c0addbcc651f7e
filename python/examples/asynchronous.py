import asyncio

from shmcreds import RefreshableSession, aio

session = RefreshableSession(
    assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
)


async def main():
    async with aio.session(session).create_client("s3", region_name="us-east-1") as s3:
        print((await s3.generate_presigned_url("list_buckets"))[:24])


asyncio.run(main())
