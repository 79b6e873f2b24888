#!/usr/bin/env python3
"""Discovery of many devices: how long the first full scan takes, how much memory a device costs, how both grow.

    ninja -C build bench-discovery
    bench/discovery/discovery.py BUILD/bench/discovery/measure [--devices 1000,3000,10000] [--rounds 3]

For each number of devices a sysfs tree is written to memory (/dev/shm), as the kernel would show a host with a quarter of
SATA disks, a quarter of NVMe disks and the rest LUNs over Fibre Channel, two paths each behind a dm-multipath map: the devices
counted are those that an administrator sees, the kernel's block devices are twice as many. The program is the device service
of stord itself, with that tree as its /sys; `ls -lR` of the same tree is timed beside it, as a yardstick of the machine. On a
real host sysfs answers somewhat slower than memory.
--check runs it small and fails unless every device was found and named; it judges no times."""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

PAGE83_NAA6 = bytes.fromhex('00830014' '01030010')
PAGE83_NAA5 = bytes.fromhex('0083000c' '01030008')


class Tree:
    """A sysfs tree in a folder: SYS/devices with the links that libudev looks for."""

    def __init__(self, root):
        self.sys = pathlib.Path(root) / 'sys'
        for folder in ('class/block', 'bus', 'block'):
            (self.sys / folder).mkdir(parents=True)
        self.blocks = 0

    def device(self, path, subsystem, attributes, uevent=''):
        folder = self.sys / path
        for name, value in attributes.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(value if isinstance(value, bytes) else f'{value}\n'.encode())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'uevent').write_text(uevent)
        kind = 'class' if subsystem in ('block', 'nvme') else 'bus'
        (folder / 'subsystem').symlink_to('../' * len(path.split('/')) + f'{kind}/{subsystem}')

    def block(self, parent, name, attributes, links):
        self.blocks += 1
        path = f'{parent}/{name}'
        self.device(path, 'block', {
            'size': 2097152, 'ro': 0, 'removable': 0, 'hidden': 0, 'queue/logical_block_size': 512,
            'queue/physical_block_size': 4096, 'queue/rotational': 0} | attributes,
            f'MAJOR=250\nMINOR={self.blocks}\nDEVNAME={name}\nDEVTYPE=disk\nDEVLINKS={links}\n')
        (self.sys / 'class/block' / name).symlink_to(f'../../{path}')
        return path

    def scsi_disk(self, host, hctl, name, vendor, page, wwid):
        unit = f'{host}/target{hctl.rsplit(":", 1)[0]}/{hctl}'
        self.device(unit, 'scsi', {
            'vendor': vendor, 'model': 'Disk of a bench', 'rev': '0001', 'state': 'running', 'wwid': wwid,
            'vpd_pg83': page, 'vpd_pg80': bytes([0, 0x80, 0, 12]) + f'S{self.blocks:011d}'.encode()})
        path = self.block(f'{unit}/block', name, {}, f'/dev/disk/by-id/wwn-0x{wwid[4:]} /dev/disk/by-path/x-{hctl}')
        (self.sys / path / 'device').symlink_to(f'../../../{hctl}')
        return path


def letters(number):
    out = ''
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        out = chr(97 + rest) + out
    return out


def build(root, devices):
    """Gives what the service must report."""
    tree = Tree(root)
    sata, nvme = devices // 4, devices // 4
    luns = devices - sata - nvme
    disk = 0
    for i in range(sata):
        adapter = f'devices/pci0000:00/0000:00:{i // 32:02x}.2'
        if i % 32 == 0:
            tree.device(adapter, 'pci', {})
        port = f'{adapter}/ata{i + 1}'
        host = f'{port}/host{i}'
        tree.device(host, 'scsi', {f'scsi_host/host{i}/proc_name': 'ahci'})
        naa = f'5000c500{i:08x}'
        tree.scsi_disk(host, f'{i}:0:0:0', 'sd' + letters(disk), 'ATA', PAGE83_NAA5 + bytes.fromhex(naa), 'naa.' + naa)
        disk += 1
    for i in range(nvme):
        slot = f'devices/pci0001:00/0001:{i % 256:02x}:{i // 256:02x}.0'
        tree.device(slot, 'pci', {})
        controller = f'{slot}/nvme/nvme{i}'
        tree.device(controller, 'nvme', {'transport': 'pcie', 'address': f'0001:{i % 256:02x}:{i // 256:02x}.0', 'state': 'live',
                                         'model': 'Bench NVMe', 'serial': f'N{i:09d}', 'firmware_rev': '1'})
        uuid = f'{i:08x}-9d3f-4c6b-8f25-0e5a7a1b2c3d'
        path = tree.block(controller, f'nvme{i}n1', {'wwid': f'uuid.{uuid}', 'nsid': 1, 'nguid': f'{uuid}'}, f'/dev/disk/by-id/nvme-uuid.{uuid}')
        (tree.sys / path / 'device').symlink_to(f'../../nvme{i}')
    hosts = []
    for h in (0, 1):
        adapter = f'devices/pci0002:00/0002:00:0{h}.0'
        tree.device(adapter, 'pci', {})
        host = f'{adapter}/host{100000 + h}'
        tree.device(host, 'scsi', {f'scsi_host/host{100000 + h}/proc_name': 'qla2xxx'})
        hosts.append(f'{host}/rport-{100000 + h}:0-0')
    for i in range(luns):
        naa = f'600140500a1b2c3d{i:016x}'
        paths = []
        for h, host in enumerate(hosts):
            paths.append(tree.scsi_disk(host, f'{100000 + h}:0:0:{i}', 'sd' + letters(disk), 'BENCH',
                                        PAGE83_NAA6 + bytes.fromhex(naa), 'naa.' + naa))
            disk += 1
        path = tree.block('devices/virtual/block', f'dm-{i}', {'dm/uuid': f'mpath-3{naa}', 'dm/name': f'mpath{letters(i)}'},
                          f'/dev/mapper/mpath{letters(i)} /dev/disk/by-id/dm-uuid-mpath-3{naa}')
        (tree.sys / path / 'slaves').mkdir()
        for slave in paths:
            name = slave.rsplit('/', 1)[1]
            (tree.sys / path / 'slaves' / name).symlink_to(f'../../../../../{slave[len("devices/"):]}')
    return {'devices': devices, 'shared': luns, 'conflicts': 0, 'found': True, 'events': 0}, tree.blocks


def in_tree(root, command):
    """Runs a command that sees the tree as its /sys, in a mount namespace of its own; gives its output and the processor
    time it took in milliseconds."""
    enter = [] if os.geteuid() == 0 else ['--user', '--map-root-user']
    script = f'mount --bind {root}/sys /sys && exec "$@"'
    # libudev otherwise wants a real sysfs
    environment = dict(os.environ, SYSTEMD_DEVICE_VERIFY_SYSFS='0')
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(['unshare', *enter, '--mount', 'sh', '-c', script, 'sh', *command], env=environment,
                         capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode != 0:
        sys.exit(f'FAIL: {command[0]}: exit {run.returncode}\n{run.stderr}')
    return run.stdout, 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def can_enter():
    enter = [] if os.geteuid() == 0 else ['--user', '--map-root-user']
    return subprocess.run(['unshare', *enter, '--mount', 'sh', '-c', 'mount --bind /tmp /sys'],
                          capture_output=True).returncode == 0


def measure(program, devices, rounds):
    memory = '/dev/shm' if os.path.isdir('/dev/shm') else None
    with tempfile.TemporaryDirectory(prefix='bench-discovery.', dir=memory) as root:
        expected, blocks = build(root, devices)
        rows, listing = [], []
        for _ in range(rounds):
            rows.append(json.loads(in_tree(root, [program])[0]))
            listing.append(in_tree(root, ['ls', '-lR', '/sys/devices'])[1])
    wrong = {key: rows[0][key] for key, value in expected.items() if rows[0][key] != value}
    if wrong:
        sys.exit(f'FAIL: {devices} devices: {wrong}, expected {expected}')
    median = {key: statistics.median(row[key] for row in rows)
              for key in ('scan_ms', 'scan_cpu_ms', 'held_kib', 'describe_ms', 'find_ms')}
    return dict(median, devices=devices, blocks=blocks, list_ms=statistics.median(listing))


COLUMNS = [
    ('devices', 8, lambda row: f'{row["devices"]}'),
    ('blocks', 8, lambda row: f'{row["blocks"]}'),
    ('first scan', 12, lambda row: f'{row["scan_ms"]:.0f} ms'),
    ('of it CPU', 12, lambda row: f'{row["scan_cpu_ms"]:.0f} ms'),
    ('per device', 12, lambda row: f'{1000 * row["scan_cpu_ms"] / row["devices"]:.0f} µs'),
    ('memory', 12, lambda row: f'{row["held_kib"] / 1024:.1f} MiB'),
    ('per device', 12, lambda row: f'{row["held_kib"] / row["devices"]:.2f} KiB'),
    ('describe all', 14, lambda row: f'{row["describe_ms"]:.0f} ms'),
    ('find one', 10, lambda row: f'{row["find_ms"]:.1f} ms'),
    ('ls -lR CPU', 12, lambda row: f'{row["list_ms"]:.0f} ms'),
]


def show(rows):
    print(''.join(title.rjust(width) for title, width, _ in COLUMNS))
    for row in rows:
        print(''.join(cell(row).rjust(width) for _, width, cell in COLUMNS))
    for before, after in zip(rows, rows[1:]):
        more = after['devices'] / before['devices']
        print(f'{before["devices"]} to {after["devices"]} devices, {more:.2f} times: '
              f'{after["scan_cpu_ms"] / before["scan_cpu_ms"]:.2f} times the CPU time, '
              f'{after["held_kib"] / before["held_kib"]:.2f} times the memory')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('program', help='BUILD/bench/discovery/measure')
    parser.add_argument('--devices', default='1000,3000,10000', help='numbers of devices, ascending')
    parser.add_argument('--rounds', type=int, default=3, help='the median of this many is shown')
    parser.add_argument('--check', action='store_true', help='small, for completeness only')
    arguments = parser.parse_args()
    if not can_enter():
        print('SKIP: needs a mount namespace of its own (root, or unprivileged user namespaces)')
        return 77
    if arguments.check:
        arguments.devices, arguments.rounds = '200,400', 1
    show([measure(arguments.program, int(number), arguments.rounds) for number in arguments.devices.split(',')])
    return 0


if __name__ == '__main__':
    sys.exit(main())
