# fog-aws: asks S3 at S3_URL, with the credentials that it finds in a container.
require "fog/aws"

if ARGV == ["version"]
  puts Fog::AWS::VERSION
  exit
end
# It reads no variable for keys itself.
keys = { aws_access_key_id: ENV["AWS_ACCESS_KEY_ID"], aws_secret_access_key: ENV["AWS_SECRET_ACCESS_KEY"],
         aws_session_token: ENV["AWS_SESSION_TOKEN"] }
keys = { use_iam_profile: true } unless ENV.key?("AWS_ACCESS_KEY_ID")
url = URI(ENV.fetch("S3_URL"))
s3 = Fog::Storage.new(provider: "AWS", scheme: "http", host: url.host, port: url.port, path_style: true, **keys)
s3.get_bucket("bucket")
