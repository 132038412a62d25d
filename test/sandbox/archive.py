"""Writes evil.tar: names with .., absolute names, links to elsewhere, devices, setuid."""

import io
import sys
import tarfile

outside = sys.argv[1]


def entry(name, kind=tarfile.REGTYPE, mode=0o644, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    content = b"#!/bin/sh\nid -u\n" if kind == tarfile.REGTYPE else b""
    info.size = len(content)
    if kind == tarfile.CHRTYPE:
        info.devmajor, info.devminor = 1, 1
    archive.addfile(info, io.BytesIO(content))


with tarfile.open("evil.tar", "w") as archive:
    entry("../above")
    entry(f"{outside}/absolute")
    entry("link", tarfile.SYMTYPE, target=outside)
    entry("link/linked")
    entry("passwd", tarfile.LNKTYPE, target="/etc/passwd")
    entry("device", tarfile.CHRTYPE, 0o666)
    if "with-pipe" in sys.argv:
        entry("pipe", tarfile.FIFOTYPE)
    entry("setuid", mode=0o4755)
