import sys

from shmcreds import IOTX509RefreshableSession

endpoint, data_endpoint, certificate, ca, module = sys.argv[1:]
session = IOTX509RefreshableSession(
    endpoint=endpoint,  # <id>.credentials.iot.<region>.amazonaws.com
    role_alias="app",
    certificate=certificate,
    ca=ca,
    # A PKCS#11 module signs. A process of its own loads it for each fetch.
    pkcs11={"pkcs11_lib": module, "user_pin": "5678", "token_label": "device"},
)
print(session.get_credentials().access_key)

# After the fork, since a connection has threads. An awscrt.mqtt.Connection:
host, _, port = data_endpoint.partition(":")  # <id>-ats.iot.<region>.amazonaws.com
connection = session.mqtt(endpoint=host, client_id="device-1", port=int(port or 8883))
connection.connect().result(10)
connection.disconnect().result(10)
