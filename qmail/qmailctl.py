"""qmailctl(8): start, stop and look after the mail service.

SYNOPSIS   qmailctl start | stop | restart | pause | cont | stat | queue
           qmailctl doqueue | alrm | flush | reload | hup | cdb | help
EXIT       0.  1: no such command.  Otherwise what the program that failed exited with.
FILES      HOME/service or /service: the service directories, under svscan
           HOME/tcp.smtp or /etc/tcp.smtp: the access rules, compiled to .cdb beside it
           /var/lock/subsys/qmail: made by start and removed by stop where that directory exists
ENVIRONMENT  QMAILHOME
"""

from __future__ import annotations

import os
import sys

from qmail import home
from qmail.home import is_private
from supervise import chain, children
from supervise.program import Fatal, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEND = "qmail-send"
RECEIVERS = ("qmail-smtpd", "qmail-pop3d", "qmail-qmtpd", "qmail-qmqpd")  # those that exist are used
LOCK = "/var/lock/subsys/qmail"
COMMANDS = "start|stop|restart|doqueue|flush|reload|stat|pause|cont|cdb|queue|help"
HELP = """\
   stop -- stop the mail service: no connections are taken, nothing is delivered
  start -- start the mail service: connections are taken, mail is delivered
  pause -- hold the mail service: connections wait, nothing is delivered
   cont -- go on after a pause
   stat -- show how long each service is up or down, and the size of the queue
    cdb -- compile the SMTP access rules
restart -- stop and start SMTP, send qmail-send a TERM and start it again
doqueue -- try every queued message again now
 reload -- send qmail-send a HUP: read locals and virtualdomains again
  queue -- show what is in the queue
   alrm -- same as doqueue
  flush -- same as doqueue
    hup -- same as reload"""


class Site:
    """Where one mail service has its services and rules."""

    def __init__(self, home: str) -> None:
        self.private = is_private(home)
        self.scan_directory = f"{home}/service" if self.private else "/service"
        self.rules = f"{home}/tcp.smtp" if self.private else "/etc/tcp.smtp"
        self.receivers = [name for name in RECEIVERS if os.path.isdir(self.service(name))]

    def service(self, name: str) -> str:
        return f"{self.scan_directory}/{name}"

    def pair(self, name: str) -> list[str]:
        """The service and its log."""
        return [self.service(name), f"{self.service(name)}/log"]


def call(*argv: str) -> int:
    """Run a program to its end; return its exit code."""
    try:
        return children.wait(children.spawn(argv))
    except OSError as error:
        raise chain.unable_to_run(argv[0], error) from error


def show(line: str) -> None:
    say(line, 1)


def start(site: Site) -> int:
    show("Starting qmail")
    for name in (SEND, *site.receivers):
        if call("svok", site.service(name)) == 0:
            call("svc", "-u", *site.pair(name))
        else:
            show(f"{name} supervise not running")
    if not site.private and os.path.isdir(os.path.dirname(LOCK)):
        with unable_to(f"create {LOCK}"):
            os.close(os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    return 0


def stop(site: Site) -> int:
    show("Stopping qmail...")
    for name in (*site.receivers, SEND):
        show(f"  {name}")
        call("svc", "-d", *site.pair(name))
    if not site.private and os.path.isfile(LOCK):
        with unable_to(f"remove {LOCK}"):
            os.unlink(LOCK)
    return 0


def restart(site: Site) -> int:
    show("Restarting qmail:")
    for name in site.receivers:
        show(f"* Stopping {name}.")
        call("svc", "-d", *site.pair(name))
    show("* Sending qmail-send SIGTERM and restarting.")
    call("svc", "-t", *site.pair(SEND))
    for name in site.receivers:
        show(f"* Restarting {name}.")
        call("svc", "-u", *site.pair(name))
    return 0


def stat(site: Site) -> int:
    for name in (SEND, *site.receivers):
        call("svstat", *site.pair(name))
    return call("qmail-qstat")


def doqueue(site: Site) -> int:
    show("Flushing timeout table and sending ALRM signal to qmail-send.")
    return call("qmail-tcpok") or call("svc", "-a", site.service(SEND))


def reload(site: Site) -> int:
    show("Sending HUP signal to qmail-send.")
    return call("svc", "-h", site.service(SEND))


def pause(site: Site) -> int:
    for name in (SEND, *site.receivers):
        show(f"Pausing {name}")
        call("svc", "-p", site.service(name))
    return 0


def cont(site: Site) -> int:
    for name in (SEND, *site.receivers):
        show(f"Continuing {name}")
        call("svc", "-c", site.service(name))
    return 0


def cdb(site: Site) -> int:
    compiled = f"{site.rules}.cdb"
    with unable_to(f"open {site.rules}"):
        rules = os.open(site.rules, os.O_RDONLY | os.O_CLOEXEC)
    try:
        code = children.wait(children.spawn(["tcprules", compiled, f"{site.rules}.tmp"], fds={0: rules}))
    except OSError as error:
        raise chain.unable_to_run("tcprules", error) from error
    finally:
        os.close(rules)
    if code:
        return code  # tcprules has said why, and the old rules stand
    with unable_to(f"chmod {compiled}"):
        os.chmod(compiled, 0o644)
    show(f"Reloaded {site.rules}.")
    return 0


def queue(_: Site) -> int:
    return call("qmail-qstat") or call("qmail-qread")


def explain(_: Site) -> int:
    show(HELP)
    return 0


ACTIONS: dict[str, Callable[[Site], int]] = {
    "start": start,
    "stop": stop,
    "restart": restart,
    "stat": stat,
    "doqueue": doqueue,
    "alrm": doqueue,
    "flush": doqueue,
    "reload": reload,
    "hup": reload,
    "pause": pause,
    "cont": cont,
    "cdb": cdb,
    "queue": queue,
    "help": explain,
}


@program("qmailctl")
def main(argv: Sequence[str]) -> int:
    action = ACTIONS.get(argv[0]) if argv else None
    if not action:
        show(f"Usage: {sys.argv[0]} {{{COMMANDS}}}")
        return 1
    place = os.path.abspath(home.find())
    if not os.path.isdir(place):
        raise Fatal(f"no mail system in {place}")
    os.environ["QMAILHOME"] = place
    os.environ["PATH"] = f"{place}/bin:/usr/local/bin:/usr/bin:/bin"
    return action(Site(place))
