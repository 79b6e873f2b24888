#!/usr/bin/env python3
"""Where udevd runs: its database gives properties and links; what it has not settled, or has put aside, is not ready.
A scripted sysfs and database in a mount namespace of its own; no udevd is started."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = 'mount --bind "$1/sys" /sys && mount --bind "$1/run" /run && shift && exec "$@"'
# name: minor, what udev's database says ("I:" marks it as settled), expected
DISKS = {
    'sda': (0, 'I:1000\nS:disk/by-id/scsi-3600140500a1b2c3d4e5f60718293a4b5\nE:ID_BUS=scsi\n'
               'E:ID_SERIAL=3600140500a1b2c3d4e5f60718293a4b5\nE:ID_PATH=pci-0000:00:07.0-scsi-0:0:0:0\n',
            dict(id='naa6.600140500a1b2c3d4e5f60718293a4b5', ready=True,
                 links=['/dev/disk/by-id/scsi-3600140500a1b2c3d4e5f60718293a4b5'])),
    'sdb': (16, None, dict(id='name.sdb', ready=False, links=[])),
    'sdc': (32, 'I:1001\nE:ID_SERIAL_SHORT=C1\nE:SYSTEMD_READY=0\n',
            dict(id='model-serial.ACME_Disk_C1', ready=False, links=[])),
}


def write_tree(root):
    unit_of = {'sda': '0:0:0:0', 'sdb': '0:0:1:0', 'sdc': '0:0:2:0'}
    (root / 'sys/class/block').mkdir(parents=True)
    (root / 'run/udev/data').mkdir(parents=True)
    (root / 'run/udev/control').touch()
    for name, (minor, database, _) in DISKS.items():
        unit = f'devices/host0/target{unit_of[name][:-2]}/{unit_of[name]}'
        disk = f'{unit}/block/{name}'
        for path, content in {f'{unit}/uevent': '', f'{unit}/vendor': 'ACME', f'{unit}/model': 'Disk',
                              f'{disk}/uevent': f'MAJOR=8\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE=disk\n',
                              f'{disk}/size': '2048'}.items():
            (root / 'sys' / path).parent.mkdir(parents=True, exist_ok=True)
            (root / 'sys' / path).write_text(content)
        (root / 'sys' / unit / 'subsystem').symlink_to('../../../../bus/scsi')
        (root / 'sys' / disk / 'subsystem').symlink_to('../../../../../../class/block')
        (root / 'sys' / disk / 'device').symlink_to(f'../../../{unit_of[name]}')
        (root / 'sys/class/block' / name).symlink_to(f'../../{disk}')
        if database is not None:
            (root / f'run/udev/data/b8:{minor}').write_text(database)


def main():
    program = sys.argv[1]
    enter = ['unshare', '--mount'] if os.geteuid() == 0 else ['unshare', '--user', '--map-root-user', '--mount']
    if subprocess.run([*enter, 'mount', '--bind', '/tmp', '/sys'], capture_output=True).returncode != 0:
        print('SKIP: needs a mount namespace of its own (root, or unprivileged user namespaces)')
        return 77
    with tempfile.TemporaryDirectory(prefix='devices-udev.') as folder:
        write_tree(pathlib.Path(folder))
        # libudev otherwise wants a real sysfs
        run = subprocess.run([*enter, 'sh', '-c', SCRIPT, 'sh', folder, program], capture_output=True, text=True,
                             env=dict(os.environ, SYSTEMD_DEVICE_VERIFY_SYSFS='0'), timeout=60)
    if run.returncode != 0:
        sys.exit(f'FAIL: exit {run.returncode}\n{run.stderr}')
    result = json.loads(run.stdout)
    problems = [] if result['source'] == 'udev' else [f"events come from {result['source']!r}, expected 'udev'"]
    found = {device['name']: device for device in result['devices']}
    for name, (_, _, expected) in DISKS.items():
        actual = {key: found.get(name, {}).get(key) for key in expected}
        if actual != expected:
            problems.append(f'{name}: {actual}, expected {expected}')
    if problems:
        sys.exit('FAIL: ' + '\nFAIL: '.join(problems))
    print(f'{len(found)} devices as udev\'s database says')
    return 0


if __name__ == '__main__':
    sys.exit(main())
