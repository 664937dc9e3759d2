"""The release after this one, as far as its schema goes: settler with the migrations of the folder in `VARIABLE`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from alembic.script import ScriptDirectory

from settler.cli import main as settler_main
from settler.storage import migrate

VARIABLE: Final = "TEST_NEXT_RELEASE"
NEXT = '''"""Something new, of which the release before knows nothing."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "next", "{head}", None, None


def upgrade() -> None:
    op.add_column("invoices", sa.Column("colour", sa.Text(), nullable=True))
    op.add_column("transfers", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.create_table("colours", sa.Column("name", sa.Text(), primary_key=True))
'''


def scripts(folder: Path) -> Path:
    """This release's migrations and one more, which only adds."""
    present = migrate._SCRIPTS
    shutil.copytree(present, folder, ignore=shutil.ignore_patterns("__pycache__"))
    head = ScriptDirectory.from_config(migrate._config()).get_current_head()
    (folder / "versions" / "next.py").write_text(NEXT.format(head=head))
    return folder


def main() -> int:
    migrate._SCRIPTS = Path(os.environ.pop(VARIABLE))
    return settler_main()
