// Eight workers of a Node cluster, each with an S3 client of its own: prints the access keys they use.
const cluster = require("node:cluster");
const { S3Client, ListBucketsCommand } = require("@aws-sdk/client-s3");

async function work() {
  const s3 = new S3Client({ forcePathStyle: true });
  await s3.send(new ListBucketsCommand({}));
  process.send((await s3.config.credentials()).accessKeyId, () => process.exit(0));
}

if (cluster.isPrimary) {
  for (let i = 0; i < 8; i++) cluster.fork();
  cluster.on("message", (_, key) => console.log(key));
  cluster.on("exit", (_, code) => { if (code !== 0) process.exitCode = 1; });
} else {
  work().catch((error) => { console.error(error.name, error.message); process.exit(1); });
}
