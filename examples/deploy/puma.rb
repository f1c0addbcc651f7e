# Puma whose workers share one set of AWS credentials: shmcreds exec --role-arn ARN -- puma -C puma.rb
#
# An SDK that knows no AWS_CONTAINER_CREDENTIALS_FULL_URI, as aws-sdk-core 3.168 in Debian 12, needs
# `shmcreds exec --credential-process`.
# USR1 restarts the workers one by one, USR2 the whole server in the same process: the session goes on.

bind "tcp://#{ENV.fetch("BIND", "127.0.0.1:9292")}"
# Each worker loads the application and makes its own clients, after the fork: a client made before would share its
# connections. USR1 needs this, too.
preload_app! false
workers Integer(ENV.fetch("WEB_CONCURRENCY", "8"))
threads 1, 5


# SIGTERM is a good end: `exec` ends with 0 then, too.
raise_exception_on_sigterm false
