#!/usr/bin/env python3
"""Mocked sysfs trees (*.umockdev beside this file) through libudev and the device service: each device must come out with
the identity, quality, locality, sharing and reason that its row says; and, with udev's properties taken away, with the
same identity from sysfs alone."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# what the kernel itself puts into an uevent; everything else in a description is udev's
KERNEL_KEYS = {'SUBSYSTEM', 'DEVNAME', 'DEVTYPE', 'MAJOR', 'MINOR', 'PARTN', 'DRIVER', 'PCI_SLOT_NAME', 'NVME_TRTYPE'}

LOCAL_SATA = "a SATA disk on this host's own controller"
LOCAL_USB = 'a USB device plugged into this host'
LOCAL_NVME = "an NVMe disk on this host's PCI Express bus"
BOOT = "this host's running system is on it"
TWINS = 'model-serial.JMicron_Generic_2022071300A5 is also that of '
VENDOR_FORM = '1e4b-303032355f33383531-434f4e53554d4552204e564d4520323536-00000001'

# tree, with its story: device name: what it must show. Missing keys: conflict None, boot False, ready True, shared False.
TREES = {
    # Two SATA disks on an AHCI controller. libata makes VPD pages from the ATA identity; INQUIRY cuts the SSD's model.
    'sata': {
        'sda': dict(id='naa5.5002538e40a1b2c3', quality='high', transport='sata', locality='yes',
                    reason='local: ' + LOCAL_SATA, model='Samsung SSD 860 EVO 500GB', serial='S3Z2NB0K123456A',
                    identifiers=['naa5 5002538e40a1b2c3', 't10 ATA_Samsung_SSD_860_EVO_500GB_S3Z2NB0K123456A',
                                 'model-serial Samsung_SSD_860_EVO_500GB_S3Z2NB0K123456A', 'serial S3Z2NB0K123456A'],
                    in_use=[], paths=['sda sata 0:0:0:0 running'], rotational=False),
        'sdb': dict(id='naa5.50014ee2b1a2b3c4', quality='high', transport='sata', locality='yes', boot=True,
                    reason=BOOT, model='WDC WD40EFRX-68N32N0', rotational=True, physical_block_bytes=4096,
                    in_use=['mounted on / (sdb1)'], size_bytes=7814037168 * 512),
    },
    # Two NVMe disks on PCI Express: one with UUID, NGUID and EUI-64; one with none of them, whose `uuid` file is no proof.
    'nvme': {
        'nvme0n1': dict(id='nvme-uuid.6d0c4b5e-9d3f-4c6b-8f25-0e5a7a1b2c3d', quality='high', transport='nvme',
                        locality='yes', reason='local: ' + LOCAL_NVME, model='KIOXIA KCD61LUL1T92', revision='0105',
                        identifiers=['nvme-uuid 6d0c4b5e-9d3f-4c6b-8f25-0e5a7a1b2c3d',
                                     'nguid 8ce38ee20a512f010000000000000001', 'eui64 8ce38ee20a512f02',
                                     'model-serial KIOXIA_KCD61LUL1T92_Z1A0A012T5V8'],
                        in_use=['swap (nvme0n1p1)'], paths=['nvme0n1 nvme 0000:01:00.0 live']),
        'nvme1n1': dict(id='nvme-vendor.' + VENDOR_FORM, quality='medium', transport='nvme', locality='yes',
                        reason='local: ' + LOCAL_NVME,
                        identifiers=['nvme-vendor ' + VENDOR_FORM, 'model-serial CONSUMER_NVME_256_0025_3851']),
    },
    # One Fibre Channel LUN over two adapters and two target ports each behind dm-multipath; a kpartx partition on the map
    # and an LVM volume on that: one row.
    'fc_multipath': {
        'dm-0': dict(id='naa6.600140500a1b2c3d4e5f60718293a4b5', quality='high', kind='multipath', transport='fc',
                     locality='no', shared=True, reason='remote: a LUN reached over Fibre Channel', vendor='LIO-ORG',
                     paths=['sdc fc 11:0:0:5 running', 'sdd fc 11:0:1:5 running', 'sde fc 12:0:0:5 running',
                            'sdf fc 12:0:1:5 offline'],
                     in_use=['dm-1 (partition mpatha-part1)', 'dm-2 (LVM vg-data)', 'mounted on /srv/data (dm-2)']),
    },
    # A LUN of the software initiator; the page has the target port's name too, which is not the LUN's.
    'iscsi': {
        'sdg': dict(id='naa6.6589cfc000000a1b2c3d4e5f60718293', quality='high', transport='iscsi', locality='no',
                    shared=True, reason='remote: a LUN reached over iSCSI', physical_block_bytes=16384,
                    identifiers=['naa6 6589cfc000000a1b2c3d4e5f60718293', 't10 TrueNAS_iSCSI_Disk_10a1b2c3d4e5f00',
                                 'model-serial TrueNAS_iSCSI_Disk_10a1b2c3d4e5f00', 'serial 10a1b2c3d4e5f00'],
                    paths=['sdg iscsi 3:0:0:1 running']),
    },
    # A SAS disk behind an expander; its two ports have names of their own.
    'sas': {
        'sdh': dict(id='naa5.5000c500a1b2c3d7', quality='high', transport='sas', locality='unknown',
                    reason='locality unknown: SAS: inside this host, or in an enclosure that others reach too',
                    identifiers=['naa5 5000c500a1b2c3d7', 'model-serial SEAGATE_ST18000NM004J_ZR50A1B2',
                                 'serial ZR50A1B2']),
    },
    # Nothing but its place tells it from another.
    'virtio': {
        'vda': dict(id='path.pci-0000:00:08.0', quality='none', transport='virtio', locality='unknown',
                    reason='locality unknown: virtio: only the hypervisor knows where the disk is kept', identifiers=[]),
    },
    # Two USB bridges of one batch with one serial number and no world-wide name.
    'usb_same_serial': {
        'sdi': dict(id='path.pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0', quality='none', transport='usb', locality='yes',
                    conflict=TWINS + 'sdj', reason=f'identifier conflict, never shared: {TWINS}sdj',
                    unusable=['model-serial JMicron_Generic_2022071300A5: also that of sdj',
                              'serial 2022071300A5: also that of sdj']),
        'sdj': dict(id='path.pci-0000:00:14.0-usb-0:4:1.0-scsi-0:0:0:0', quality='none', transport='usb', locality='yes',
                    conflict=TWINS + 'sdi', reason=f'identifier conflict, never shared: {TWINS}sdi'),
    },
    # An enclosure that gives every bay the same world-wide name and serial number; one disk's own T10 name shines through.
    'placeholder': {
        'sdk': dict(id='path.pci-0000:00:14.0-usb-0:1.1:1.0-scsi-0:0:0:0', quality='none', transport='usb',
                    locality='yes', reason='local: ' + LOCAL_USB, identifiers=[]),
        'sdl': dict(id='t10.ASMT_ST8000VN004-3CP1_ZA1A2B3C', quality='medium', transport='usb', locality='yes',
                    reason='local: ' + LOCAL_USB, identifiers=['t10 ASMT_ST8000VN004-3CP1_ZA1A2B3C'],
                    unusable=["naa5 5000000000000001: a placeholder that makers leave in place of an identifier: "
                              "'5000000000000001'",
                              "model-serial ASMT_ASM236X_0000000000CA: a placeholder that makers leave in place of an "
                              "identifier: '0000000000CA'",
                              "serial 0000000000CA: a placeholder that makers leave in place of an identifier: "
                              "'0000000000CA'"]),
    },
    # A namespace over TCP through two controllers, joined by the kernel; its hidden path nodes are no devices.
    'nvme_tcp': {
        'nvme3n1': dict(id='nvme-uuid.0f1e2d3c-4b5a-4697-8899-aabbccddeeff', quality='high', transport='nvme-tcp',
                        locality='no', shared=True, reason='remote: an NVMe namespace reached over TCP',
                        paths=['nvme3 nvme-tcp traddr=192.0.2.3,trsvcid=4420 live',
                               'nvme4 nvme-tcp traddr=192.0.2.4,trsvcid=4420 connecting']),
    },
}

# the running system of this imaginary host: root on sdb1, data on the LVM volume, swap on the NVMe disk's partition
MOUNTINFO = """\
21 27 0:20 / /proc rw,relatime - proc proc rw
27 1 8:17 / / rw,relatime shared:1 - ext4 /dev/sdb1 rw
60 27 253:2 / /srv/data rw,relatime shared:2 - xfs /dev/mapper/vg-data rw
"""
SWAPS = 'Filename\t\tType\t\tSize\tUsed\tPriority\n/dev/nvme0n1p1  partition\t524284\t0\t-2\n'

# how names given by a user resolve, per tree
NAMES = {
    'sata': {'sda': 'naa5.5002538e40a1b2c3', '/dev/sda': 'naa5.5002538e40a1b2c3', 'sdb1': 'naa5.50014ee2b1a2b3c4',
             '5002538E40A1B2C3': 'naa5.5002538e40a1b2c3', 'naa.5002538e40a1b2c3': 'naa5.5002538e40a1b2c3',
             '0x5002538e40a1b2c3': 'naa5.5002538e40a1b2c3', 'serial.WD-WCC7K0XX1234': 'naa5.50014ee2b1a2b3c4',
             '/dev/disk/by-id/wwn-0x5002538e40a1b2c3': 'naa5.5002538e40a1b2c3', 'sdz': None, '': None},
    'fc_multipath': {name: 'naa6.600140500a1b2c3d4e5f60718293a4b5' for name in
                     ('sdc', '/dev/sdf', 'dm-0', '/dev/mapper/mpatha', 'mpatha', 'dm-1', '/dev/mapper/mpatha-part1',
                      '/dev/disk/by-path/pci-0000:00:04.0-fc-0x500140500a1b2c3d-lun-5')} | {'dm-2': None},
    'usb_same_serial': {'2022071300A5': ['path.pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0',
                                         'path.pci-0000:00:14.0-usb-0:4:1.0-scsi-0:0:0:0'],
                        'sdi': 'path.pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0'},
    'placeholder': {'5000000000000001': ['path.pci-0000:00:14.0-usb-0:1.1:1.0-scsi-0:0:0:0',
                                         't10.ASMT_ST8000VN004-3CP1_ZA1A2B3C']},
}


def without_udev(text):
    """The description as it is where no udevd has ever run."""
    return ''.join(line for line in text.splitlines(keepends=True)
                   if not line.startswith('S: ') and
                   not (line.startswith('E: ') and line[3:].split('=')[0] not in KERNEL_KEYS))


def dump(program, description, folder, names=()):
    command = ['umockdev-run', '--device', str(description), '--', program, '--mountinfo', f'{folder}/mountinfo',
               '--swaps', f'{folder}/swaps', *names]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if run.returncode != 0:
        sys.exit(f'FAIL: {description.name}: exit {run.returncode}\n{run.stderr}')
    return json.loads(run.stdout)


def shown(device):
    """A device as the rows above put it."""
    return dict(
        device, shared=device['sharing']['shared'], reason=device['sharing']['reason'],
        identifiers=[f"{i['type']} {i['value']}" for i in device['identifiers']
                     if i['usable'] and i['quality'] != 'none'],
        unusable=[f"{i['type']} {i['value']}: {i['why']}" for i in device['identifiers'] if not i['usable']],
        paths=[f"{p['name']} {p['transport']} {p['location']} {p['state']}" for p in device['paths']])


def compare(title, expected, devices, keys=None):
    problems = []
    found = {device['name']: shown(device) for device in devices}
    if list(found) != list(expected):
        problems.append(f'{title}: devices {list(found)}, expected {list(expected)}')
    for name, row in expected.items():
        row = {'conflict': None, 'boot': False, 'ready': True, 'shared': False, 'kind': 'disk'} | row
        for key, value in row.items():
            actual = found.get(name, {}).get(key)
            if (keys is None or key in keys) and actual != value:
                problems.append(f'{title}: {name}: {key} is {actual!r}, expected {value!r}')
    return problems


def main():
    program = sys.argv[1]
    if shutil.which('umockdev-run') is None:
        print('SKIP: umockdev-run is not installed (package umockdev)')
        return 77
    problems = []
    with tempfile.TemporaryDirectory(prefix='devices.') as folder:
        (pathlib.Path(folder) / 'mountinfo').write_text(MOUNTINFO)
        (pathlib.Path(folder) / 'swaps').write_text(SWAPS)
        everything = pathlib.Path(folder) / 'everything.umockdev'
        everything.write_text('\n'.join((HERE / f'{tree}.umockdev').read_text() for tree in TREES
                                        if tree != 'placeholder'))
        for tree, expected in TREES.items():
            description = HERE / f'{tree}.umockdev'
            # alone, the root of another tree is not found: whether a device carries it is then not known
            alone = {name: dict(row, boot=row.get('boot', False) if 'sata' == tree else None)
                     for name, row in expected.items()}
            result = dump(program, description, folder, NAMES.get(tree, {}))
            problems += compare(tree, alone, result['devices'])
            for name, value in NAMES.get(tree, {}).items():
                if result['resolved'][name] != value:
                    problems.append(f'{tree}: {name!r} is {result["resolved"][name]!r}, expected {value!r}')
            bare = pathlib.Path(folder) / f'{tree}-bare.umockdev'
            bare.write_text(without_udev(description.read_text()))
            problems += compare(f'{tree} without udev', alone, dump(program, bare, folder)['devices'],
                                {'id', 'quality', 'transport', 'locality', 'shared', 'reason', 'conflict', 'kind', 'paths',
                                 'identifiers', 'serial', 'in_use'})
        together = {}
        for tree, expected in TREES.items():
            if tree != 'placeholder':
                together.update(expected)
        result = dump(program, everything, folder)
        order = [device['name'] for device in result['devices']]
        problems += compare('all trees on one host', {name: together[name] for name in order if name in together},
                            result['devices'])
        if sorted(order) != sorted(together):
            problems.append(f'all trees on one host: {sorted(order)}, expected {sorted(together)}')
        if len(result['findings']) != 2:
            problems.append(f'all trees on one host: findings {result["findings"]}, expected the two USB disks')
    if problems:
        sys.exit('FAIL: ' + '\nFAIL: '.join(problems))
    print(f'{sum(len(tree) for tree in TREES.values())} devices of {len(TREES)} trees as expected')
    return 0


if __name__ == '__main__':
    os.environ['LC_ALL'] = 'C.UTF-8'
    sys.exit(main())
