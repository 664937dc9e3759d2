"""Makes the database's password and the URL that holds it, once: `make_secrets.py FOLDER`. The first of compose.yaml.

They live in a volume that only the database, settler and the demo see, and that goes with `docker compose down -v`.
Nobody has to think of one, and none stands in the repository.
"""

import secrets
import sys
from pathlib import Path


def main(folder: Path) -> None:
    password, url = folder / "postgres_password", folder / "database_url"
    if not url.exists():
        password.write_text(secrets.token_hex(32))
        url.write_text(f"postgresql://settler:{password.read_text()}@postgres/settler")
    for file in (password, url):
        file.chmod(0o644)  # read by other users in their own containers; the volume is what keeps others out


if __name__ == "__main__":
    main(Path(sys.argv[1]))
