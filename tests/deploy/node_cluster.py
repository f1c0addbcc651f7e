"""cluster.js: eight workers, a killed worker: one call of STS, one key.

usage: node_cluster.py VENV SHMCREDS NODE_FOLDER
"""

import pathlib
import shutil
import sys

from deployment import EXAMPLES, moto
from servers import serve


def main():
    # Node looks for modules beside the program.
    program = pathlib.Path(sys.argv[3]) / "deploy_cluster.js"
    shutil.copy(EXAMPLES / "cluster.js", program)
    with moto() as aws:
        serve(aws, ["node", str(program)], {"NODE_NO_WARNINGS": "1"}, reload=None)
    print("Node cluster: 8 workers, one killed: 1 call of STS, 1 key")


main()
