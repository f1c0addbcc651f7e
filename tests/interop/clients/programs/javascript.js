// The AWS SDKs for JavaScript: asks S3 at S3_URL; with AGAIN_AFTER once more after as many seconds.
// usage: javascript.js FOLDER MODULE, a module of version 2 (aws-sdk) or 3 (@aws-sdk/client-s3).
const path = require("node:path");
const [folder, name] = process.argv.slice(2);
const sdk = require(path.join(folder, "node_modules", name));
const endpoint = process.env.S3_URL;

function asking() {
  if (sdk.S3Client) {
    const s3 = new sdk.S3Client({ endpoint, forcePathStyle: true });
    return () => s3.send(new sdk.ListBucketsCommand({}));
  }
  const s3 = new sdk.S3({ endpoint, s3ForcePathStyle: true });
  return () => s3.listBuckets().promise();
}

async function main() {
  const ask = asking();
  await ask();
  const again = process.env.AGAIN_AFTER;
  if (again) {
    await new Promise((resolve) => setTimeout(resolve, again * 1000));
    await ask();
  }
}

main().catch((error) => { console.error(error.name, error.message); process.exit(1); });
