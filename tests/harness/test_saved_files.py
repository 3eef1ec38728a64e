import pytest

from harness.commands.common import save
from harness.errors import UserError


def test_a_file_is_as_open_to_others_as_any_that_its_user_makes(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    save(tmp_path / "new" / "report.csv", b"x")
    assert (tmp_path / "new" / "report.csv").read_bytes() == b"x"
    modes = {path.stat().st_mode for path in (tmp_path / "plain", tmp_path / "new" / "report.csv")}
    assert len(modes) == 1


def test_a_file_that_cannot_be_written_is_the_users_to_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write there"):
        save(tmp_path / "file" / "report.csv", b"x")
