"""A mediated USB node of the lab's tests, run without stord: stor-node with a specification of its own. Standard library only."""

import contextlib
import os
import pathlib

from node_process import NodeProcess

MAJOR, FIRST_MINOR = 189, 64 * 128


class UsbNode(NodeProcess):
    """Serves /dev/storctl/usb/NAME from the device's own node until `stop`."""

    _minors = iter(range(FIRST_MINOR, FIRST_MINOR + 100))

    def __init__(self, name, devnode, open_policy='single-writer', interfaces=None, deny=('firmware',)):
        super().__init__(name, f'/dev/storctl/usb/{name}', {
            'kind': 'usb', 'backing_path': devnode, 'backing_kind': 'usb', 'mount_path': '', 'open': open_policy,
            'usb': {'device_name': f'storctl/usb/{name}', 'major': MAJOR, 'minor': next(self._minors),
                    'interfaces': interfaces, 'deny': list(deny), 'descriptors': ''}})

    def operations(self):
        """Counters by the kind of URB, and of requests: ioctl, poll."""
        return {one['operation']: one for one in self.call('Stat')['operations']}

    def resident_kib(self):
        status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text(encoding='ascii')
        return int(next(line for line in status.splitlines() if line.startswith('VmRSS')).split()[1])

    def proportional_kib(self):
        """Resident, shared pages by the share of each process."""
        rollup = pathlib.Path(f'/proc/{self.process.pid}/smaps_rollup').read_text(encoding='ascii')
        return int(next(line for line in rollup.splitlines() if line.startswith('Pss:')).split()[1])

    def threads(self):
        return len(os.listdir(f'/proc/{self.process.pid}/task'))

    def descriptors(self):
        """What each open one of the process is of."""
        found = []
        for link in pathlib.Path(f'/proc/{self.process.pid}/fd').iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(link))
        return sorted(found)
