# The AWS SDK for Ruby: asks S3 at S3_URL; with AGAIN_AFTER once more after as many seconds.
require "aws-sdk-s3"

if ARGV == ["version"]
  puts Aws::CORE_GEM_VERSION
  exit
end
s3 = Aws::S3::Client.new(endpoint: ENV.fetch("S3_URL"), force_path_style: true)
s3.list_buckets
if ENV.key?("AGAIN_AFTER")
  sleep(ENV["AGAIN_AFTER"].to_f)
  s3.list_buckets
end
