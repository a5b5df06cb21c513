import ssl
import stat
import urllib.request

import pytest
from cryptography import x509
from servers import running

from emotion_jax.errors import UserError
from emotion_jax.serving import certificate

NAMES = ["127.0.0.1", "::1", "localhost"]


def test_a_client_that_knows_it_trusts_it(tmp_path):
    path = certificate.ensure(tmp_path / "https", NAMES)
    context = ssl.create_default_context(cafile=path)
    with running(certificate=path) as port:
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{port}/icon.svg"
            with urllib.request.urlopen(url, context=context) as response:
                assert response.status == 200


def test_it_is_kept_and_private(tmp_path):
    path = certificate.ensure(tmp_path, NAMES)
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert certificate.ensure(tmp_path, NAMES[:2]).read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["certificate.pem"]


def test_it_is_made_anew_for_other_names_when_it_ends_and_when_it_is_broken(tmp_path, monkeypatch):
    path = certificate.ensure(tmp_path, NAMES)
    first = certificate.fingerprint(path)
    certificate.ensure(tmp_path, [*NAMES, "laptop.local"])
    second = certificate.fingerprint(path)
    assert second != first
    names = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    alternatives = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["localhost", "laptop.local"]
    monkeypatch.setattr(certificate, "RENEWED", certificate.RENEWED * 1000)
    certificate.ensure(tmp_path, NAMES)
    third = certificate.fingerprint(path)
    assert third != second
    path.write_bytes(b"broken")
    certificate.ensure(tmp_path, NAMES)
    assert len(certificate.fingerprint(path)) == 32 * 3 - 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to"):
        certificate.ensure(tmp_path / "file", NAMES)
