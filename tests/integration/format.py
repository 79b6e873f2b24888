#!/usr/bin/env python3
"""Every C++ file is as clang-format (version 14, the repository's configuration) would write it."""

import pathlib
import shutil
import subprocess
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    tool = shutil.which('clang-format-14')
    if not tool:
        print('clang-format-14 is not installed')
        sys.exit(77)
    files = sorted(path for pattern in ('*.cpp', '*.hpp') for path in root.rglob(pattern)
                   if not path.relative_to(root).parts[0].startswith(('build', '.')))
    if not files:
        sys.exit('FAIL: no source was found')
    sys.exit(subprocess.run([tool, '--dry-run', '-Werror', *files], check=False).returncode)


main()
