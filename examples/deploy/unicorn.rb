# unicorn whose workers share one set of AWS credentials: shmcreds exec --role-arn ARN -- unicorn -c unicorn.rb
#
# An old SDK for Ruby needs `shmcreds exec --credential-process`, as in puma.rb.
#
# HUP reloads. The upgrade by USR2 starts a second master: `exec` ends when the first one does, and ends the second.
# For that upgrade keep the session in a unit of its own (`shmcreds@.service`).

listen ENV.fetch("BIND", "127.0.0.1:8080")
worker_processes Integer(ENV.fetch("WEB_CONCURRENCY", "8"))

# With true, make the clients in an `after_fork` block: a client made in the master would share its connections.
preload_app false
