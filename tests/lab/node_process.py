"""A stor-node process of the lab's tests, run without stord on a specification of its own. Standard library only."""

import json
import os
import pathlib
import signal
import socket
import subprocess

from lab_test import BUILD, PATIENCE, check, fail, until


class NodeProcess:
    """Runs from `start` to `stop`. `path`: the character device that is there while it serves."""

    def __init__(self, name, path, spec):
        self.path, self.spec = path, {'version': 1, 'name': name, 'control_socket': f'/run/{name}.socket', **spec}
        self.socket = self.spec['control_socket']
        self.log = pathlib.Path(f'/run/{name}.log')
        self._spec_file = pathlib.Path(f'/run/{name}.json')
        self.start()

    def start(self):
        self._spec_file.write_text(json.dumps(self.spec), encoding='ascii')
        with self.log.open('wb') as log:
            self.process = subprocess.Popen([BUILD / 'daemon/node/stor-node', '--spec', self._spec_file],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(f'{self.path}', lambda: self.process.poll() is not None or
              (os.path.exists(self.path) and os.path.exists(self.socket)))
        check(self.process.poll() is None, f'stor-node ended with {self.process.poll()}: {self.said()}')

    def said(self):
        return self.log.read_text(encoding='utf-8', errors='replace')

    def call(self, method, **parameters):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(self.socket)
            connection.sendall(json.dumps({'method': f'io.storctl.NodeProcess.{method}', 'parameters': parameters}).encode() + b'\0')
            answer = b''
            while not answer.endswith(b'\0'):
                piece = connection.recv(1 << 16)
                check(piece, f'stor-node closed the connection over {method}: {self.said()}')
                answer += piece
        answer = json.loads(answer[:-1])
        check('error' not in answer, f'{method}: {answer}')
        return answer['parameters']

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            fail(f'stor-node does not end: {self.said()}')
        check(status == 0, f'stor-node ended with {status}: {self.said()}')
        check(not os.path.exists(self.path), f'{self.path} is still there')
