"""Run a program with the restrictions of a systemd unit, where systemd does not run.

usage: as-unit.py UNIT WRITABLE-DIRECTORY PROGRAM [ARGUMENT...]

Reads [Service] of UNIT and does to itself what systemd would do to the service, then becomes PROGRAM. A directive that is
neither applied nor listed below as left out is an error, so that nothing in the unit is only decoration. The kernel
enforces all of it: capabilities, a mount namespace, a seccomp filter.
"""

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys

import seccomp

UNIT, WRITABLE, *PROGRAM = sys.argv[1:]
NOBODY = 65534

PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_SET_KEEPCAPS = 8
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
CAP_LAST = int(open("/proc/sys/kernel/cap_last_cap").read())
CLONE_NEW = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]

# What starts, restarts and names the service, and what needs a system manager or a home of its own: the program and its
# configuration lie where the test put them.
LEFT_OUT = {
    "Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartForceExitStatus", "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve", "KeyringMode", "RemoveIPC",
    "ProtectHome", "ProtectHostname", "PrivateIPC", "ProtectClock", "RestrictSUIDSGID", "LimitRTPRIO",
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


def directives():
    section = ""
    for line in open(UNIT):
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            yield line.split("=", 1)


def mounts(settings):
    """ProtectSystem, PrivateTmp, PrivateDevices, ProtectProc and the like, in a mount namespace of its own."""
    run = lambda *command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    os.makedirs(WRITABLE, exist_ok=True)
    if settings["ProtectSystem"] != "strict":
        raise ValueError("ProtectSystem is not strict")
    run("mount", "--make-rprivate", "/")
    run("mount", "--bind", WRITABLE, WRITABLE)
    run("mount", "-o", "remount,bind,ro", "/")
    if settings["ProtectKernelTunables"] == "yes":
        run("mount", "--bind", "/proc/sys", "/proc/sys")
        run("mount", "-o", "remount,bind,ro", "/proc/sys")
    if settings["ProtectProc"] == "invisible":
        run("mount", "-t", "proc", "-o", "hidepid=invisible", "proc", "/proc")
    if settings["PrivateDevices"] == "yes":
        device = os.path.join(WRITABLE, "dev")
        os.mkdir(device)
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", device)
        for name in ("null", "zero", "urandom", "random"):
            open(os.path.join(device, name), "w").close()
            run("mount", "--bind", f"/dev/{name}", os.path.join(device, name))
        run("mount", "--rbind", device, "/dev")


def filtered(settings):
    """SystemCallFilter and what else of a unit becomes a seccomp filter."""
    number = getattr(errno, settings["SystemCallErrorNumber"])
    allowed = set()
    for value in settings["SystemCallFilter"]:
        names = set()
        for item in value.lstrip("~").split():
            names |= expanded(item)
        allowed = allowed - names if value.startswith("~") else allowed | names
    kept_back = {"socket"}
    if settings["RestrictNamespaces"] == "yes":
        kept_back |= {"clone", "clone3", "unshare", "setns"}
    if settings["LockPersonality"] == "yes":
        kept_back.add("personality")
    if settings["RestrictRealtime"] == "yes":
        kept_back |= {"sched_setscheduler", "sched_setattr"}
    refuse = seccomp.ERRNO(number)
    rules = seccomp.SyscallFilter(defaction=refuse)
    families = {getattr(socket, name) for name in settings["RestrictAddressFamilies"].split()}
    for name in sorted(allowed):
        if name in kept_back:
            continue
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except (RuntimeError, ValueError):
            pass  # another architecture's
    for family in families:
        rules.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, int(family)))
    if settings["RestrictNamespaces"] == "yes":
        mask = sum(CLONE_NEW)
        rules.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, mask, 0))
        # Its flags are in memory, where a filter cannot see them: the C library then takes clone.
        rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    rules.load()


def expanded(item):
    if not item.startswith("@"):
        return {item}
    text = subprocess.run(["systemd-analyze", "syscall-filter", item], check=True, capture_output=True, text=True).stdout
    names = set()
    for line in text.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            names |= expanded(word)
    return names


def main():
    settings = {}
    for name, value in directives():
        if name == "SystemCallFilter":
            settings.setdefault(name, []).append(value)
        else:
            settings[name] = value
    applied = {
        "User", "Group", "AmbientCapabilities", "CapabilityBoundingSet", "NoNewPrivileges", "UMask", "LimitCORE",
        "RuntimeDirectory", "ProtectSystem", "PrivateTmp", "PrivateDevices", "ProtectControlGroups",
        "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc",
        "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "LockPersonality", "SystemCallArchitectures",
        "SystemCallFilter", "SystemCallErrorNumber", "MemoryDenyWriteExecute",
    }  # fmt: skip
    unknown = settings.keys() - applied - LEFT_OUT
    if unknown:
        raise ValueError(f"neither applied nor left out: {sorted(unknown)}")
    if settings["MemoryDenyWriteExecute"] != "no":
        raise ValueError("V8 cannot run with MemoryDenyWriteExecute")

    call("unshare", 0x00020000)
    mounts(settings)
    os.chown(WRITABLE, NOBODY, NOBODY)
    os.umask(int(settings["UMask"], 8))
    resource.setrlimit(resource.RLIMIT_CORE, (int(settings["LimitCORE"]),) * 2)

    bounding = {CAPABILITIES[name] for name in settings["CapabilityBoundingSet"].split()}
    ambient = {CAPABILITIES[name] for name in settings["AmbientCapabilities"].split()}
    for capability in range(CAP_LAST + 1):
        if capability not in bounding:
            call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    mask = sum(1 << capability for capability in ambient)
    call("capset", header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0))
    for capability in ambient:
        call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)
    if settings["NoNewPrivileges"] == "yes":
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filtered(settings)
    os.execvp(PROGRAM[0], PROGRAM)


main()
