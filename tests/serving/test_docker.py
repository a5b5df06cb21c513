"""What the image is built of; building it needs Docker."""

import re
import tomllib
from fnmatch import fnmatch

from servers import ROOT


def test_the_image_is_given_all_that_the_package_is_built_of():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = settings["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"]}
    copies = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(" ".join(copies).split()) == needed
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    assert [name for name in needed if not any(fnmatch(name, one) for one in kept)] == []
