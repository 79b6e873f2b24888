#!/usr/bin/env python3
"""storctl usb and pci against a real stord that sees a made-up host: an xHCI controller with a USB 3 hub and devices, and one that shares
its IOMMU group with another function. Every verb, its exit status, and every JSON document against docs/json.md."""
import json
import os
import select
import subprocess
import time
import unittest

from cli_stord import compare, read_documents
from storctl_test import STORCTL, Stord, StordTestCase, require

DOCUMENTS = read_documents()
DEADLINE_SECONDS = 60
ROOT = '/devices/pci0000:00'
STICK, KEYPAD, DONGLE = '0000:00:14.0/2.1', '0000:00:14.0/2.3', '0000:00:14.0/4'


def pci(address, class_code, driver, group=None):
    lines = [f'P: {ROOT}/{address}', 'E: SUBSYSTEM=pci', f'E: PCI_SLOT_NAME={address}', 'E: ID_VENDOR_FROM_DATABASE=Intel',
             'E: ID_MODEL_FROM_DATABASE=Cannon Lake', f'A: class={class_code}', 'A: vendor=0x8086', 'A: device=0xa36d',
             f'L: driver=../../../bus/pci/drivers/{driver}']
    if group is not None:
        lines.append(f'L: iommu_group=../../iommu/{group}')
    return '\n'.join(lines) + '\n'


def iommu_group(number, *members):
    """Elsewhere than the kernel has it, as umockdev knows only devices."""
    return '\n'.join([f'P: /devices/iommu/{number}', 'E: SUBSYSTEM=iommu',
                      *(f'L: devices/{member}=../../../pci0000:00/{member}' for member in members)]) + '\n'


def usb(path, bus, address, ids, speed='480', ports=0, strings=('', '', '')):
    vendor, product = ids.split(':')
    lines = [f'P: {ROOT}/{path}', f'N: bus/usb/{bus:03}/{address:03}', 'E: SUBSYSTEM=usb', 'E: DEVTYPE=usb_device',
             f'E: DEVNAME=/dev/bus/usb/{bus:03}/{address:03}', f'E: BUSNUM={bus:03}', f'E: DEVNUM={address:03}',
             f'A: busnum={bus}', f'A: devnum={address}', f'A: idVendor={vendor}', f'A: idProduct={product}',
             f'A: bDeviceClass={"09" if ports else "00"}', 'A: bConfigurationValue=1', f'A: speed={speed}', f'A: maxchild={ports}']
    lines += [f'A: {name}={value}' for name, value in zip(('manufacturer', 'product', 'serial'), strings) if value]
    return '\n'.join(lines) + '\n'


def interface(path, class_code):
    return '\n'.join([f'P: {ROOT}/{path}', 'E: SUBSYSTEM=usb', 'E: DEVTYPE=usb_interface', 'A: bInterfaceNumber=00',
                      f'A: bInterfaceClass={class_code}', 'A: bInterfaceSubClass=00', 'A: bInterfaceProtocol=00']) + '\n'


def root_hub(controller, bus, speed, ports, peers=()):
    path = f'{controller}/usb{bus}'
    ports_of = interface(f'{path}/{bus}-0:1.0', '09')
    ports_of += ''.join(f'A: usb{bus}-port{port}/connect_type=hotplug\n' for port in range(1, ports + 1))
    ports_of += ''.join(f'L: usb{bus}-port{port}/peer=../../../{peer}\n' for port, peer in peers)
    return [usb(path, bus, 1, '1d6b:0002', speed, ports), ports_of]


def host():
    """The USB 3 root hub's port 1 is the other half of port 2, where the hub is."""
    xhci = '0000:00:14.0'
    hub2, hub3 = f'{xhci}/usb1/1-2', f'{xhci}/usb2/2-1'
    return '\n'.join([
        pci(xhci, '0x0c0330', 'xhci_hcd', 4), pci('0000:00:14.2', '0x050000', 'intel_sram', 4),
        iommu_group(4, xhci, '0000:00:14.2'),
        *root_hub(xhci, 1, '480', 4), *root_hub(xhci, 2, '5000', 2, [(1, 'usb1/1-0:1.0/usb1-port2')]),
        usb(hub2, 1, 2, '05e3:0610', ports=4, strings=('GenesysLogic', 'USB2.1 Hub', '')), interface(f'{hub2}/1-2:1.0', '09'),
        usb(hub3, 2, 2, '05e3:0626', '5000', 4, ('GenesysLogic', 'USB3.1 Hub', '')), interface(f'{hub3}/2-1:1.0', '09'),
        usb(f'{hub3}/2-1.1', 2, 3, '0781:5581', '5000', strings=('SanDisk', 'Ultra', 'STICK1')),
        interface(f'{hub3}/2-1.1/2-1.1:1.0', '08'),
        usb(f'{hub2}/1-2.3', 1, 3, '1a86:7523', '12'), interface(f'{hub2}/1-2.3/1-2.3:1.0', 'ff'),
        usb(f'{xhci}/usb1/1-4', 1, 4, '1a86:7523', '12', strings=('日立', 'Dongle\x1b[2J', 'D2')),
        interface(f'{xhci}/usb1/1-4/1-4:1.0', 'ff')])


class MockedStord(Stord):
    def command(self, *more):
        # umockdev-run does not take its program along when it is killed
        return ['umockdev-run', '--device', os.path.join(self.folder, 'host.umockdev'), '--', 'setpriv', '--pdeathsig', 'KILL',
                *super().command(*more)]


class Usb(StordTestCase):
    def setUp(self):
        super().setUp()
        folder = os.path.join(self.folder, 'host')
        os.makedirs(folder)
        with open(os.path.join(folder, 'host.umockdev'), 'w', encoding='utf-8') as file:
            file.write(host())
        self.host = MockedStord(folder)
        self.addCleanup(self.check_log, self.host)
        self.addCleanup(self.host.clean)
        self.host.start()

    def storctl(self, *words, code=0, out=(), err=()):
        done = subprocess.run([STORCTL, *words], capture_output=True, text=True, timeout=DEADLINE_SECONDS, stdin=subprocess.DEVNULL,
                              env={'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': self.host.run_dir, 'LC_ALL': 'C.UTF-8'})
        shown = f'storctl {" ".join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.host.log()}'
        self.assertEqual(done.returncode, code, shown)
        for text in [out] if isinstance(out, str) else out:
            self.assertIn(text, done.stdout, shown)
        for text in [err] if isinstance(err, str) else err:
            self.assertIn(text, done.stderr, shown)
        self.assertNotIn('\x1b', done.stdout + done.stderr)
        return done.stdout

    def document(self, *words, code=0):
        answer = json.loads(self.storctl(*words, '--json', code=code))
        title = ' '.join(words[:3] if words[1] == 'rule' else words[:2])
        compare(DOCUMENTS[title], answer, title)
        return answer

    def column(self, *words):
        return self.storctl(*words[:-1], '--no-headings', '-o', words[-1]).split()

    def test_looking(self):
        self.assertEqual(self.column('usb', 'list', 'NAME'), ['1-2', '2-1', '2-1.1', '1-2.3', '1-4'])
        self.assertEqual(self.column('usb', 'list', 'SOCKET'), ['0000:00:14.0/2'] * 2 + [STICK, KEYPAD, DONGLE])
        self.assertEqual(self.column('pci', 'list', 'ADDRESS'), ['0000:00:14.0'])
        self.assertEqual(self.column('pci', 'list', '--all', 'ADDRESS'), ['0000:00:14.0', '0000:00:14.2'])
        self.assertEqual(len(self.document('usb', 'list')['devices']), 5)
        self.document('pci', 'list', '--all')
        self.document('usb', 'tree')
        lines = self.storctl('usb', 'tree').splitlines()
        self.assertEqual([line.split('  ')[0] for line in lines[1:]], ['0000:00:14.0', '├─ 1-2, 2-1', '│', '│', '└─ 1-4'])
        self.assertIn('├─ 2-1.1 at /2.1  0781:5581  SanDisk Ultra', lines[3])
        self.assertIn('日立 Dongle\\x1b[2J', lines[5])

    def test_a_device_from_claim_to_release(self):
        self.storctl('usb', 'claim', '0781:5581', '--for', 'vm:a', '--dry-run', out=f'would claim device {STICK} (0781:5581')
        self.assertEqual(self.document('usb', 'claims')['claims'], [])
        claimed = self.document('usb', 'claim', 'STICK1', '--for', 'vm:a', '--reason', 'licence')
        self.assertEqual([entry['target'] for entry in claimed['claims']], [STICK])
        number = f'#{claimed["claims"][0]["id"]}'
        self.storctl('usb', 'tree', out=f'vm:a {number}  licence\n')
        self.assertEqual(self.column('usb', 'list', 'IN-USE')[:2], ['1', '1'])
        self.storctl('usb', 'claim', STICK, '--for', 'vm:b', code=8,
                     err=[f'{STICK} (0781:5581 SanDisk Ultra) is held by vm:a since ', '(licence)', f'storctl usb explain {STICK} --for vm:b'])
        asked = self.document('usb', 'explain', '2-1.1', '--for', 'vm:b', code=8)
        self.assertEqual(asked['next'], [f'storctl usb release {STICK} --for vm:a', 'storctl usb claim 2-1.1 --for vm:b'])
        self.storctl('usb', 'explain', '2-1.1', '--for', 'vm:a', out=['granted', f'vm:a has it already ({number})'])
        self.storctl('usb', 'release', STICK, '--for', 'vm:b', code=8, err='vm:a')
        self.storctl('usb', 'release', STICK, '--dry-run', out=f'would release {number}: device {STICK}')
        self.assertEqual(self.document('usb', 'release', number, '-n')['released'], claimed['claims'])
        self.assertEqual(len(self.document('usb', 'claims')['claims']), 1)
        # umockdev's sysfs has no drivers_probe: the host's driver does not come back
        released = self.document('usb', 'release', number, '--for', 'vm:a', code=9)
        self.assertEqual([entry['phase'] for entry in released['released']], ['failed'])
        self.assertEqual([entry['id'] for entry in released['released']], [claimed['claims'][0]['id']])
        self.assertEqual(self.storctl('usb', 'release', STICK, '--for', 'vm:a'), 'nothing to release\n')
        self.storctl('usb', 'release', STICK, code=5, err=STICK)

    def test_claims_are_followed_and_counted(self):
        with subprocess.Popen([STORCTL, '--run-dir', self.host.run_dir, 'monitor', '--json'], stdout=subprocess.PIPE) as monitor:
            self.addCleanup(monitor.kill)
            # when the first event comes, the monitor has reached stord
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not select.select([monitor.stdout], [], [], 0)[0]:
                self.assertLess(time.monotonic(), deadline, 'no event')
                self.storctl('usb', 'claim', DONGLE, '--for', 'vm:first')
                self.storctl('usb', 'release', DONGLE, '--keep-off')
            self.storctl('usb', 'claim', STICK, '--for', 'vm:a')
            event = json.loads(monitor.stdout.readline())
            while (event['event'], event['subject']) != ('claim-added', STICK):
                self.assertIn(event['event'], ('claim-added', 'claim-changed', 'claim-removed', 'status-changed'))
                event = json.loads(monitor.stdout.readline())
            compare(DOCUMENTS['monitor'], event, 'monitor')
            compare(DOCUMENTS['usb claims']['claims'][0], event['detail'], 'usb claims.claims')
            self.assertEqual(event['detail']['holder'], 'vm:a')
            monitor.kill()
        self.storctl('status', out='1, 0 lost, 0 failed')
        # written at the end of the loop's turn, not before the answer
        deadline = time.monotonic() + DEADLINE_SECONDS
        while [entry['target'] for entry in self.host.state_file()['claims']] != [STICK]:
            self.assertLess(time.monotonic(), deadline, self.host.state_file()['claims'])
        self.assertIn({'socket', 'kernel_name', 'devnode', 'description', 'holder', 'claim'}, [set(each) for each in self.host.state_file()['usb']])

    def test_several_are_all_or_nothing(self):
        self.storctl('usb', 'claim', KEYPAD, '--for', 'vm:a')
        self.storctl('usb', 'claim', STICK, KEYPAD, '--for', 'vm:b', code=8, err=[KEYPAD, 'vm:a'])
        self.assertEqual(self.column('usb', 'claims', 'TARGET'), [KEYPAD])
        self.storctl('usb', 'claim', STICK, DONGLE, '--for', 'vm:b', out=['claimed', STICK, DONGLE])
        self.assertEqual(len(self.storctl('usb', 'release', '--all', '--for', 'vm:b', '--keep-off').splitlines()), 2)
        self.assertEqual(self.column('usb', 'claims', 'HOLDER'), ['vm:a'])

    def test_hubs_and_controllers_are_gated(self):
        self.storctl('usb', 'claim', STICK, '--for', 'vm:a')
        self.storctl('usb', 'claim', '1-2', '--for', 'vm:b', '--keep-drivers', code=8, err=[STICK, 'vm:a'])
        self.storctl('pci', 'claim', '00:14.0', '--for', 'vm:b', '--keep-drivers', code=8, err=[STICK, 'vm:a'])
        self.storctl('usb', 'release', STICK, '--keep-off')
        asked = self.document('pci', 'explain', '00:14.0', code=8)
        self.assertEqual(asked['next'], ['storctl pci claim 00:14.0 --group --for vm:NAME'])
        self.storctl('usb', 'claim', '1-2', '--for', 'vm:b', '--keep-drivers', out='claimed')
        self.storctl('usb', 'claim', STICK, '--for', 'vm:b', '--keep-drivers', out='covered by its claim of the hub')
        self.storctl('usb', 'claim', STICK, '--for', 'vm:c', '--keep-drivers', code=8, err='vm:b')
        self.storctl('usb', 'release', '--all', '--for', 'vm:b')
        taken = self.document('pci', 'claim', '0000:00:14.0', '--group', '--keep-drivers', '--for', 'vm:b')
        self.assertEqual([entry['target'] for entry in taken['claims']], ['0000:00:14.0', '0000:00:14.2'])
        self.storctl('usb', 'tree', out=f'→ vm:b #{taken["claims"][0]["id"]}')
        self.storctl('usb', 'claim', STICK, '--for', 'vm:a', code=8, err=['passed through to vm:b', '0000:00:14.0'])
        self.document('pci', 'release', '00:14.0', '0000:00:14.2')

    def test_names_that_are_wrong(self):
        self.storctl('usb', 'claim', '1a86:7523', '--for', 'vm:a', code=7, err=[KEYPAD, DONGLE])
        self.storctl('usb', 'claim', '1-9', '--for', 'vm:a', code=5, err="storctl: '1-9': no USB device here is called so")
        self.storctl('usb', 'claim', '1-4', '--for', 'nobody', code=2, err='nobody')
        self.storctl('usb', 'explain', '1-9', code=5, err="storctl: '1-9': no USB device here is called so")
        self.storctl('pci', 'claim', 'x', '--for', 'vm:a', code=2, err=["'x'", 'PCI address'])
        self.storctl('pci', 'explain', '0000:ff:14.0', code=5, err='0000:ff:14.0')
        self.storctl('usb', 'release', "#99", code=5, err="storctl: '#99': there is no claim of it")

    def test_rules(self):
        made = self.document('usb', 'rule', 'add', '--class', 'smartcard', '--socket', '0000:00:14.0/3', '--for', 'vm:bank')['rule']
        self.assertEqual(made['device_class'], 11)
        self.storctl('usb', 'rule', 'add', '-d', '046d:c31c', '--for', 'vm:desk', out='vm:desk gets 046d:c31c')
        self.assertEqual(self.column('usb', 'rule', 'list', 'HOLDER'), ['vm:bank', 'vm:desk'])
        self.assertEqual(len(self.document('usb', 'rule', 'list')['rules']), 2)
        self.assertEqual(self.document('usb', 'rule', 'remove', str(made['id']))['removed'], made['id'])
        self.storctl('usb', 'rule', 'remove', str(made['id']), code=5, err=f'no rule {made["id"]}')
        self.storctl('usb', 'rule', 'add', '--socket', 'nowhere', '--for', 'vm:a', code=2, err='nowhere')
        self.storctl('usb', 'rule', 'add', '--serial', '', '--for', 'vm:a', code=2, err='an empty serial number')
        self.storctl('usb', 'rule', 'add', '--socket', '0000:00:14.0', '--for', 'vm:a', code=2,
                     err="'0000:00:14.0' is no socket that a device can be plugged into")


if __name__ == '__main__':
    require('umockdev-run', 'setpriv')
    unittest.main()
