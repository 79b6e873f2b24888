"""storctl's table of verbs as its --help shows it, for the tests of completion and manual pages."""
import re
import subprocess


class Verb:
    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.arguments = re.findall(r'^  ([A-Z]+) ', section(text, 'Arguments'), re.M)
        self.options = options(section(text, 'Options'))
        self.common = options(section(text, 'Common options'))
        self.columns = re.findall(r'^  [ *]([A-Z][A-Z0-9/-]*)\s', section(text, r'Columns \(\* by default\)'), re.M)


class Option:
    def __init__(self, letter, name, value):
        self.letter = letter    # "o" or ""
        self.name = name        # "output"
        self.value = value      # "COLS", "auto|always|never" or ""


def section(text, title):
    found = re.search(rf'^{title}:\n((?:  .*\n)*)', text, re.M)
    return found.group(1) if found else ''


def options(text):
    rows = re.findall(r'^  (?:-(\w), |    )--([a-z-]+)(?: (\S+))?(?:  |\n)', text, re.M)
    return [Option(*row) for row in rows]


def help_of(program, *words):
    return subprocess.run([program, *words, '--help'], check=True, capture_output=True, text=True).stdout


def paths(program):
    """Every verb, "status" or "device list"."""
    text = help_of(program)
    found = re.findall(r'^  ([a-z]+(?: [a-z]+){0,2})  ', text, re.M)
    assert len(found) > 10, f'{program} --help names only {found}'
    return found


def verbs(program):
    return [Verb(path, help_of(program, *path.split())) for path in paths(program)]
