"""Locks: one holder at a time, who says who it is; where no lock can be had, work goes on without one."""

import fcntl
import os
import subprocess
import sys
from threading import Thread

import pytest

from minivae import locks
from minivae.locks import Locked, is_alive, locked


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_whoever_comes_second_is_told_who_holds_it(path):
    path.write_text("9" * 30)                              # a longer number of another process, long gone
    with locked(path, "r is being trained"):
        assert path.read_text() == str(os.getpid())
        said = f"^r is being trained by process {os.getpid()}: wait until it is done$"
        with pytest.raises(Locked, match=said), locked(path, "r is being trained"):
            raise AssertionError("two at a time")


def test_the_lock_is_free_after_the_block_however_it_ended(path):
    for ending in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(ending), locked(path, "it is held"):
            raise ending
    with locked(path, "it is held"):
        pass


@pytest.mark.parametrize("name, said", [
    (b"", "unknown"), (b"\xff12", "\ufffd12"), (b"0123456789" * 3, "0123456789" * 2)], ids=["none", "damaged", "long"])
def test_a_holder_without_a_name_is_unknown(path, name, said):
    path.write_bytes(name)
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Locked, match=f"^it is held by process {said}: wait"), locked(path, "it is held"):
            raise AssertionError("two at a time")


def test_who_waits_comes_after_the_holder(path):
    order = []

    def come_second():
        with locked(path, "it is held", wait=True):
            order.append("second")

    with locked(path, "it is held", wait=True):
        thread = Thread(target=come_second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_everybody_may_lock_the_file_whom_the_umask_lets(path):
    before = os.umask(0o002)
    try:
        with locked(path, "it is held"):
            assert path.stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)


def without_locks(*arguments):
    raise OSError("this disk knows no locks")


@pytest.mark.parametrize("cause", ["no folder", "no locks on this disk", "Windows"])
def test_without_a_lock_the_block_runs(path, monkeypatch, cause):
    if cause == "no folder":
        path = path / "nowhere"
    elif cause == "Windows":
        monkeypatch.setattr(locks, "fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", without_locks)
    ran = []
    with locked(path, "it is held"), locked(path, "it is held"):
        ran.append(cause == "no folder" or path.read_bytes() == b"")
    assert ran == [True] and not path.exists()


def test_a_full_disk_holds_the_lock_without_a_name(path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", without_locks)
    with locked(path, "it is held"):
        with pytest.raises(Locked, match="by process unknown"), locked(path, "it is held"):
            raise AssertionError("two at a time")


def test_a_process_that_has_ended_is_not_alive(monkeypatch):
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    assert is_alive(os.getpid()) and not is_alive(ended.pid)
    assert is_alive(2**80)                                 # no number of a process: nobody knows
    asked = []

    def another_users(pid, signal):
        asked.append((pid, signal))
        raise PermissionError

    monkeypatch.setattr(os, "kill", another_users)
    assert is_alive(ended.pid) and asked == [(ended.pid, 0)]
    monkeypatch.setattr(locks, "fcntl", None)              # Windows: there kill with 0 is no question
    assert is_alive(ended.pid) and len(asked) == 1
