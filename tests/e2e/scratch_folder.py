"""A folder under /tmp for servers that a test starts, and those servers' processes."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

JANITOR = Path(__file__).resolve().parents[1] / "support" / "folder_janitor.sh"
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unprivileged():
    """Whom a server runs as when the tests are root, which PostgreSQL and PgBouncer refuse to be; else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("neither a user postgres nor nobody")


def environment(home="/"):
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(home)}


class ScratchFolder:
    """A fresh folder with a short name, /tmp/annal-<kind>-xxxxxxxx, that belongs to `unprivileged`.

    A process outside of the tests waits for their end: however that comes, SIGKILL included, it ends what still works in the
    folder and removes it.
    """

    def __init__(self, kind):
        self.path = Path(tempfile.mkdtemp(prefix=f"annal-{kind}-", dir="/tmp"))
        # In the background of a shell that ends: no longer a child of the tests, so that who kills them with their children does
        # not kill this one.
        read_end, self._janitor = os.pipe()
        try:
            subprocess.run(["/bin/sh", "-c", 'exec 3<&0; /bin/sh "$0" "$1" <&3 3<&- &', str(JANITOR), str(self.path)],
                           stdin=read_end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                           env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, check=True)
        finally:
            os.close(read_end)
        user = unprivileged()
        if user:
            os.chown(self.path, user.pw_uid, user.pw_gid)

    def remove(self):
        """What works in the folder must have ended."""
        if self._janitor is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._janitor)
            self._janitor = None

    def start(self, arguments, output, death_signal=signal.SIGKILL):
        """Starts a program in the folder as `unprivileged`; it gets `death_signal` when the calling thread ends."""
        user = unprivileged()
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        parent = os.getpid()

        def before_exec():
            # After the change of user, which forgets it.
            if _libc.prctl(PR_SET_PDEATHSIG, int(death_signal)) != 0 or os.getppid() != parent:
                os._exit(127)

        return subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                cwd=self.path, env=environment(self.path), start_new_session=True, preexec_fn=before_exec,
                                **identity)
