"""qmail-showctl(8): explain the configuration of the mail system.

SYNOPSIS
    qmail-showctl

DESCRIPTION
    Prints what each control file says, or its default, and names the files in
    control/ that nothing reads.

EXIT
    0: printed.  111: there is no control directory, or control/me is unreadable.

FILES
    control/*
"""

from __future__ import annotations

import os

from qmail import home as mail_home
from qmail import roles
from qmail.control import Controls
from qmail.queueing.queue_layout import SPLIT, Queue
from supervise import masks
from supervise.durable import write_all
from supervise.numbers import scan_ulong
from supervise.program import TEMPORARY, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BREAK, PATERNALISM, SPAWN_LIMIT = "-", 2, 120
DEFAULT = b"(Default.) "
TROUBLE = b"Oops! Trouble reading this file.\n"
PRINTABLE = masks.printable(b"?")

LINES = {  # name: (stands control/me in for it?, default, what precedes the value)
    "bouncefrom": (False, "MAILER-DAEMON", "Bounce user name is "),
    "bouncehost": (True, "bouncehost", "Bounce host name is "),
    "defaultdomain": (True, "defaultdomain", "Default domain name is "),
    "defaulthost": (True, "defaulthost", "Default host name is "),
    "doublebouncehost": (True, "doublebouncehost", "2B recipient host: "),
    "doublebounceto": (False, "postmaster", "2B recipient user: "),
    "envnoathost": (True, "envnoathost", "Presumed domain name is "),
    "helohost": (True, "helohost", "SMTP client HELO host name is "),
    "idhost": (True, "idhost", "Message-ID host name is "),
    "localiphost": (True, "localiphost", "Local IP address becomes "),
    "me": (False, "undefined! Uh-oh", "My name is "),
    "plusdomain": (True, "plusdomain", "Plus domain name is "),
    "smtpgreeting": (True, "smtpgreeting", "SMTP greeting: 220 "),
}
NUMBERS = {  # name: (default, what precedes, what follows)
    "concurrencylocal": (10, "Local concurrency is ", ""),
    "concurrencyremote": (20, "Remote concurrency is ", ""),
    "databytes": (0, "SMTP DATA limit is ", " bytes"),
    "queuelifetime": (604800, "Message lifetime in the queue is ", " seconds"),
    "timeoutconnect": (60, "SMTP client connection timeout is ", " seconds"),
    "timeoutremote": (1200, "SMTP client data timeout is ", " seconds"),
    "timeoutsmtpd": (1200, "SMTP server data timeout is ", " seconds"),
}
LISTS = {  # name: (default, what precedes each line, what follows it)
    "badmailfrom": ("Any MAIL FROM is allowed.", "", " not accepted in MAIL FROM."),
    "locals": ("Messages for me are delivered locally.", "Messages for ", " are delivered locally."),
    "percenthack": (
        "The percent hack is not allowed.", "The percent hack is allowed for user%host@", ".",
    ),
    "qmqpservers": ("No QMQP servers.", "QMQP server: ", "."),
    "rcpthosts": (
        "SMTP clients may send messages to any recipient.",
        "SMTP clients may send messages to recipients at ", ".",
    ),
    "smtproutes": ("No artificial SMTP routes.", "SMTP route: ", ""),
    "virtualdomains": ("No virtual domains.", "Virtual domain: ", ""),
}  # fmt: skip
MORE_HOSTS = ("No effect.", "SMTP clients may send messages to recipients at ", ".")
MORE_HOSTS_BUT_NO_HOSTS = (
    "No rcpthosts; morercpthosts is irrelevant.", "No rcpthosts; doesn't matter that morercpthosts has ", ".",
)  # fmt: skip
ORDER = (
    "badmailfrom", "bouncefrom", "bouncehost", "concurrencylocal", "concurrencyremote", "databytes",
    "defaultdomain", "defaulthost", "doublebouncehost", "doublebounceto", "envnoathost", "helohost",
    "idhost", "localiphost", "locals", "me", "percenthack", "plusdomain", "qmqpservers",
    "queuelifetime", "rcpthosts", "morercpthosts", "morercpthosts.cdb", "smtpgreeting", "smtproutes",
    "timeoutconnect", "timeoutremote", "timeoutsmtpd", "virtualdomains",
)  # fmt: skip
OTHERS = {  # what else the toolkit and its run scripts read, if it is there
    "badmailto": "Recipients that match a line of it are not accepted.",
    "badrcptto": "Its addresses are not accepted as recipients.",
    "bouncemaxbytes": "Of a message, a bounce quotes that many bytes.",
    "concurrencyincoming": "The SMTP service takes that many connections at a time.",
    "datelocaltime": "With a number other than 0, dates in headers are local time.",
    "defaultdelivery": "qmail-start is given it as the default delivery.",
    "morebadrcptto": "More of badrcptto, to be read as morebadrcptto.cdb.",
    "morebadrcptto.cdb": "Compiled from morebadrcptto.",
    "clientcert.pem": "The certificate of the SMTP client.",
    "servercert.pem": "The certificate of the SMTP server.",
}


@program("qmail-showctl")
def main(argv: Sequence[str]) -> int:
    del argv
    home = mail_home.find()
    try:
        for text in system(home):
            write_all(1, text)
        directory = mail_home.control_directory(home)
        names = os.listdir(directory)
    except BrokenPipeError:
        return TEMPORARY
    except OSError:
        name = "control" if os.path.isdir(home) else home
        write_all(1, os.fsencode(f"Oops! Unable to chdir to {name}.\n"))
        return TEMPORARY
    return show(directory, names)


def show(directory: str, names: Sequence[str]) -> int:
    """Print what the control files in `directory`, which holds `names`, say; return the exit code."""
    try:
        controls = Controls(directory)
    except OSError:
        write_all(1, b"Oops! Trouble reading control/me.")
        return TEMPORARY
    text = b"".join([b"\n%b: %b" % (name.encode(), explain(controls, name)) for name in ORDER])
    for name in names:
        if name not in ORDER:
            meaning = OTHERS.get(name, "I have no idea what this file does.")
            text += b"\n%b: %b\n" % (os.fsencode(name), meaning.encode())
    write_all(1, text)
    return 0


def system(home: str) -> Iterator[bytes]:
    """What is built in, or found out at the start."""
    cast = roles.look_up()
    uids = [cast.uids[name] for name in roles.USERS] if cast else [os.getuid()] * len(roles.USERS)
    gids = [cast.gids[name] for name in roles.GROUPS] if cast else [os.getgid()] * len(roles.GROUPS)
    try:
        split = Queue.recognise(f"{home}/queue").split
    except OSError:
        split = SPLIT
    yield os.fsencode(f"qmail home directory: {home}.\n")
    yield f"user-ext delimiter: {BREAK}.\npaternalism (in decimal): {PATERNALISM}.\n".encode()
    yield f"silent concurrency limit: {SPAWN_LIMIT}.\nsubdirectory split: {split}.\n".encode()
    yield f"user ids: {', '.join(map(str, uids))}.\n".encode()
    yield f"group ids: {', '.join(map(str, gids))}.\n".encode()


def explain(controls: Controls, name: str) -> bytes:
    """What one control file says."""
    if name == "morercpthosts.cdb":
        return age_of_cdb(controls.directory).encode()
    try:
        if name in LINES:
            return line(controls, name)
        if name in NUMBERS:
            return number(controls, name)
        return entries(controls, name, *list_texts(controls, name))
    except OSError:
        return TROUBLE


def line(controls: Controls, name: str) -> bytes:
    me, default, before = LINES[name]
    value = controls.line(name)
    mark = b""
    if value is None:
        mark = DEFAULT
        value = controls.me if me and controls.me is not None else default.encode()
    return mark + before.encode() + value.translate(PRINTABLE) + b".\n"


def number(controls: Controls, name: str) -> bytes:
    default, before, after = NUMBERS[name]
    value, digits = scan_ulong(controls.line(name) or b"")
    mark = "" if digits else DEFAULT.decode()
    return f"{mark}{before}{value if digits else default}{after}.\n".encode()


def list_texts(controls: Controls, name: str) -> tuple[str, str, str]:
    if name != "morercpthosts":
        return LISTS[name]
    try:
        hosts = controls.lines("rcpthosts") is not None
    except OSError:
        hosts = True
    return MORE_HOSTS if hosts else MORE_HOSTS_BUT_NO_HOSTS


def entries(controls: Controls, name: str, default: str, before: str, after: str) -> bytes:
    found = controls.lines(name)
    if found is None:
        return DEFAULT + default.encode() + b"\n"
    lines = [before.encode() + entry.translate(PRINTABLE) + after.encode() + b"\n" for entry in found]
    return b"".join([b"\n", *lines])


def age_of_cdb(directory: str) -> str:
    """Is morercpthosts.cdb there and newer than morercpthosts?"""
    text, cdb = (modified(f"{directory}/{name}") for name in ("morercpthosts", "morercpthosts.cdb"))
    if text is None and cdb is None:
        return "(Default.) No effect.\n"
    if text is None:
        return "Oops! morercpthosts.cdb exists but morercpthosts doesn't.\n"
    if cdb is None:
        return "Oops! morercpthosts exists but morercpthosts.cdb doesn't.\n"
    if int(text) > int(cdb):
        return "Oops! morercpthosts.cdb is older than morercpthosts.\n"
    return "Modified recently enough; hopefully up to date.\n"


def modified(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
