"""``python -m client``: the ``kiln`` command, also where no script directory is on PATH or a path has spaces."""

from client.main import app

app(prog_name="kiln")
