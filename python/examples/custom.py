from datetime import datetime, timedelta, timezone

from shmcreds import RefreshableSession


def ask_the_vault(path):
    return {
        "access_key": "ASIAEXAMPLE",
        "secret_key": "secret",
        "token": "token",
        "expiry_time": datetime.now(timezone.utc) + timedelta(hours=1),
    }


session = RefreshableSession(
    method="custom",
    custom_credentials_method=ask_the_vault,
    custom_credentials_method_args={"path": "aws/app"},
)
print(session.get_credentials().access_key)
