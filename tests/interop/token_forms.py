"""Clients that nobody here wrote, under `shmcreds exec`: which of them find the set by the token's variable, by its file,
and by both. Behind a proxy that nobody answers at, which none of them may ask for the endpoint.

    token_forms.py VENV SHMCREDS
"""

import os
import subprocess
import sys

venv, shmcreds = sys.argv[1:]
python = os.path.join(venv, "bin", "python")
KEY = "ASIAEXAMPLE00001"
SET = (
    '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}' % KEY
)

# A stand-in of S3 that prints who signed the first request, for clients that do not lend their credentials.
S3 = """
import http.server, threading
signed = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        signed.append(self.headers.get("authorization", "unsigned"))
        self.send_response(404)
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
"""
CLIENTS = {
    "boto3": "import boto3; print(boto3.Session().get_credentials().access_key)",
    "awscrt (boto3[crt], AWS CLI 2)": """
import awscrt.auth, awscrt.io
loops = awscrt.io.EventLoopGroup(1)
bootstrap = awscrt.io.ClientBootstrap(loops, awscrt.io.DefaultHostResolver(loops))
chain = awscrt.auth.AwsCredentialsProvider.new_default_chain(bootstrap)
print(chain.get_credentials().result(30).access_key_id)""",
    "obstore (object_store)": S3
    + """
import obstore, obstore.store
store = obstore.store.S3Store("b", endpoint=url, region="eu-west-1", client_options={"allow_http": True},
                              retry_config={"max_retries": 0})
try: obstore.head(store, "k")
except Exception: pass
print(signed)""",
    "opendal": S3
    + """
import opendal
try: opendal.Operator("s3", bucket="b", region="eu-west-1", endpoint=url).stat("k")
except Exception: pass
print(signed)""",
    "minio-py": "from minio.credentials import IamAwsProvider; print(IamAwsProvider().retrieve().access_key)",
}
COMMANDS = {name: [python, "-c", program] for name, program in CLIENTS.items()}
COMMANDS["AWS SDK for Rust"] = [
    shmcreds, "exec", "--container", "--", "sh", "-c", f"{shmcreds} credentials $SHMCREDS_SESSION",
]
# What is given, and what is taken away from it.
FORMS = {
    "both": [],
    "variable": ["-u", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"],
    "file": ["-u", "AWS_CONTAINER_AUTHORIZATION_TOKEN"],
}
NOT = {("obstore (object_store)", "variable")}

environment = {
    "HOME": "/nonexistent",
    "PATH": os.environ["PATH"],
    "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}
wrong = []
for name, command in COMMANDS.items():
    for form, without in FORMS.items():
        line = [shmcreds, "exec", "--process", "/bin/echo", "--process-arg", SET, "--", "env", *without, *command]
        ran = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
        found = KEY in ran.stdout
        print(f"| {name} | {form} | {'yes' if found else 'no'} |")
        if found == ((name, form) in NOT):
            wrong.append(f"{name}, {form}: {ran.stdout} {ran.stderr}")
assert not wrong, "\n".join(wrong)
