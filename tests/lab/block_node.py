"""A block node of the lab's tests with its SCSI form, run without stord. Standard library only."""

import pathlib

from node_process import NodeProcess

MAJOR, FIRST_MINOR = 21, 40000
NOTHING_RESERVED = {'version': 0, 'generation': 0, 'persists': False, 'type': None, 'holder': None, 'holder_port': None,
                    'registrations': []}


class BlockNode(NodeProcess):
    """Serves `backing` as a file and as an sg device until `stop`."""

    _minors = iter(range(FIRST_MINOR, FIRST_MINOR + 100))

    def __init__(self, name, backing, kind='file'):
        self.sg = f'/dev/storctl/sg/{name}'
        super().__init__(name, self.sg, {
            'kind': 'block', 'backing_path': str(backing), 'backing_kind': kind, 'mount_path': f'/run/{name}.img',
            'loop_link': '', 'open': 'shared', 'host': 'lab',
            'identity': {'vendor': 'STORCTL', 'product': name, 'revision': '1', 'serial': 'LAB-1',
                         'naa': '3000000000000001', 'eui64': '', 'target_ports': 1},
            'sg': {'device_name': f'storctl/sg/{name}', 'major': MAJOR, 'minor': next(self._minors), 'required': True},
            'reservations': NOTHING_RESERVED})

    def requests_taken(self):
        """read(2) and its kin by the process: each request of the kernel takes one."""
        counters = pathlib.Path(f'/proc/{self.process.pid}/io').read_text(encoding='ascii')
        return int(next(line for line in counters.splitlines() if line.startswith('syscr')).split()[1])
