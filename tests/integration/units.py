#!/usr/bin/env python3
"""The systemd units as built: systemd-analyze finds nothing wrong, their exposure stays below a bar, and the node's unit
has no option that would give it a mount namespace of its own (its FUSE file would be invisible to the host)."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

UNITS = {'stord.service': 40, 'stor-node@.service': 50}  # highest exposure allowed, tenths

# systemd.exec(5), systemd 252: what unshares the mount namespace.
MOUNT_NAMESPACE = re.compile(
    r'^(ProtectSystem|ProtectHome|ProtectKernelTunables|ProtectKernelModules|ProtectKernelLogs|ProtectControlGroups|'
    r'ProtectHostname|ProtectProc|ProcSubset|Private\w+|Root\w+|MountImages|ExtensionImages|MountAPIVFS|'
    r'(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)(Paths|Directories)|Bind\w*Paths|TemporaryFileSystem|DynamicUser|'
    r'LogNamespace|MountFlags)=')


def check(condition, message):
    if not condition:
        sys.exit(f'FAIL: {message}')


def main():
    built = pathlib.Path(sys.argv[1])
    if not shutil.which('systemd-analyze'):
        print('systemd-analyze is not installed')
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        for name, bar in UNITS.items():
            text = (built / name).read_text()
            programs = re.findall(r'^ExecStart=(\S+)', text, re.M)
            check(len(programs) == 1 and programs[0].startswith('/'), f'{name}: ExecStart is {programs}')
            check('@' not in re.sub(r'SystemCallFilter=.*|Before=.*|After=.*|Wants=.*|^#.*', '', text, flags=re.M),
                  f'{name}: a placeholder was left')
            # The programs are not installed yet, and verify looks for them.
            unit = pathlib.Path(folder) / name
            unit.write_text(text.replace(f'ExecStart={programs[0]}', 'ExecStart=/bin/true'))
            verify = subprocess.run(['systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', unit],
                                    capture_output=True, text=True, check=False)
            check(verify.returncode == 0 and not verify.stderr.strip(), f'{name}: {verify.stderr or verify.stdout}')
            security = subprocess.run(
                ['systemd-analyze', 'security', '--offline=true', '--no-pager', f'--threshold={bar}', unit],
                capture_output=True, text=True, check=False)
            check(security.returncode == 0, f'{name}: exposed above {bar / 10}:\n{security.stdout}')
            print(f'{name}: {security.stdout.strip().splitlines()[-1]}')
    node = (built / 'stor-node@.service').read_text()
    found = [line for line in node.splitlines() if MOUNT_NAMESPACE.match(line)]
    check(not found, f'stor-node@.service would hide its mounts from the host: {found}')


main()
