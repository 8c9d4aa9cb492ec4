"""Tests that kill servers: fixtures and harness are those of the end-to-end tests."""

import importlib.util
import sys
from pathlib import Path

E2E = Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(E2E))

_spec = importlib.util.spec_from_file_location("e2e_fixtures", E2E / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
make_server = _fixtures.make_server
postgres_cluster = _fixtures.postgres_cluster
postgres_database = _fixtures.postgres_database
pytest_configure = _fixtures.pytest_configure
pytest_collection_modifyitems = _fixtures.pytest_collection_modifyitems
