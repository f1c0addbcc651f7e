# A server as puma and unicorn run it: each worker has an S3 client of its own, made at its first request.
require "aws-sdk-s3"
require "json"

client = nil
run(lambda do |_env|
  client ||= Aws::S3::Client.new(endpoint: ENV.fetch("S3_URL"), force_path_style: true)
  client.list_buckets
  key = client.config.credentials.credentials.access_key_id
  [200, { "content-type" => "application/json" }, [JSON.dump(pid: Process.pid, key: key)]]
end)
