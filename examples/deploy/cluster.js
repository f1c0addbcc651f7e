// A Node cluster whose workers share one set of AWS credentials: shmcreds exec --role-arn ARN -- node cluster.js
const cluster = require("node:cluster");
const http = require("node:http");
const { S3Client, ListBucketsCommand } = require("@aws-sdk/client-s3");

const workers = Number(process.env.WEB_CONCURRENCY ?? 8);
const [host, port] = (process.env.BIND ?? "127.0.0.1:8000").split(":");

function primary() {
  let ending = false;
  for (let i = 0; i < workers; i++) cluster.fork();
  // A new worker asks the endpoint, not STS.
  cluster.on("exit", () => { if (!ending) cluster.fork(); });
  process.on("SIGTERM", () => { ending = true; cluster.disconnect(); });
}

function worker() {
  // Each worker is a process of its own, and makes a client of its own.
  const s3 = new S3Client({ forcePathStyle: true });
  const server = http.createServer(async (_, response) => {
    try {
      const { Buckets } = await s3.send(new ListBucketsCommand({}));
      const { accessKeyId } = await s3.config.credentials();
      response.end(JSON.stringify({ pid: process.pid, key: accessKeyId, buckets: Buckets?.length ?? 0 }));
    } catch (error) {
      response.writeHead(503).end(error.name);
    }
  });
  server.listen(Number(port), host);
}

if (cluster.isPrimary) primary();
else worker();
