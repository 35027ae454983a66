"""Tests kazoo: its calls, recipes, transactions and states.

    kazoo_client.py HOST:PORT

prints "ok ..." for each thing tested, or "FAIL ..." and the reason, and ends with 0
if everything was right. After the line RESTART the caller must restart the server
with its data, and then send a line.
"""

import queue
import sys
import threading
import time
import traceback

from kazoo import exceptions as kz
from kazoo.client import KazooClient, KazooState
from kazoo.protocol.states import EventType
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.partitioner import SetPartitioner
from kazoo.recipe.watchers import PatientChildrenWatch
from kazoo.security import ACL, Id, OPEN_ACL_UNSAFE, make_acl, make_digest_acl

ADDR = sys.argv[1]
PATIENCE = 60
SESSION = 30  # longer than a restart of the server takes on a busy machine
PARTS = []
CLIENTS = []


def part(name):
    def add(f):
        PARTS.append((name, f))
        return f
    return add


def dial(**options):
    zk = KazooClient(hosts=ADDR, timeout=SESSION, **options)
    zk.start(timeout=PATIENCE)
    CLIENTS.append(zk)
    return zk


def same(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


def raises(error, f, *args, **kwargs):
    try:
        got = f(*args, **kwargs)
    except error as e:
        if type(e) is not error:
            raise AssertionError("raises %r, want exactly %r" % (e, error))
        return e
    raise AssertionError("no %s but %r" % (error.__name__, got))


def within(what, so):
    deadline = time.monotonic() + PATIENCE
    while not so():
        if time.monotonic() > deadline:
            raise AssertionError("%s: not in %d s" % (what, PATIENCE))
        time.sleep(0.002)


class Calls(queue.Queue):
    """What a callback was called with, in order."""

    def __call__(self, *args):
        self.put(args[0] if len(args) == 1 else args)

    def next(self, patience=PATIENCE):
        try:
            return self.get(timeout=patience)
        except queue.Empty:
            raise AssertionError("no call in %d s" % patience) from None

    def event(self, kind, path):
        e = self.next()
        same((e.type, e.path, e.state), (kind, path, "CONNECTED"))

    def until(self, want):
        """The calls up to the one that is wanted: a watch may see several
        changes at once."""
        got = []
        while not got or got[-1] != want:
            try:
                got.append(self.get(timeout=PATIENCE))
            except queue.Empty:
                raise AssertionError("got %r, never %r" % (got, want)) from None


class Thread(threading.Thread):
    """A thread whose result, or exception, end() gives."""

    def __init__(self, f, *args, **kwargs):
        super().__init__(daemon=True)
        self.job = f, args, kwargs
        self.start()

    def run(self):
        f, args, kwargs = self.job
        try:
            self.result, self.error = f(*args, **kwargs), None
        except Exception as e:
            self.error = e

    def end(self):
        self.join(PATIENCE)
        if self.is_alive():
            raise AssertionError("not done in %d s" % PATIENCE)
        if self.error:
            raise self.error
        return self.result


# The client's calls.

@part("start: state, session, versions")
def start(zk):
    same(zk.state, KazooState.CONNECTED)
    same(zk.connected, True)
    session, password = zk.client_id
    same((session != 0, len(password), any(password)), (True, 16, True))
    other = dial()
    same(other.client_id[0] != session, True)
    same(zk.command(b"ruok"), "imok")
    same(zk.server_version()[0], 3)


@part("create: kinds, makepath, include_data, sequence")
def create(zk):
    same(zk.create("/create", b"value"), "/create")
    path, stat = zk.create("/create/a", b"abc", include_data=True)
    same(path, "/create/a")
    same((stat.version, stat.cversion, stat.aversion, stat.dataLength, stat.numChildren, stat.ephemeralOwner), (0, 0, 0, 3, 0, 0))
    same((stat.mzxid, stat.pzxid, stat.mtime), (stat.czxid, stat.czxid, stat.ctime))
    same(abs(time.time() - stat.created) < 60, True)
    same(zk.exists("/create/a"), stat)
    same(zk.create("/create/b/c/d", b"deep", makepath=True), "/create/b/c/d")
    same(zk.get("/create/b")[0], b"")
    same(zk.create("/create/e", ephemeral=True), "/create/e")
    same(zk.exists("/create/e").owner_session_id, zk.client_id[0])
    same(zk.create("/create/s-", sequence=True), "/create/s-0000000003")
    path, stat = zk.create("/create/s-", sequence=True, ephemeral=True, include_data=True)
    same((path, stat.ephemeralOwner), ("/create/s-0000000004", zk.client_id[0]))
    zk.ensure_path("/create/x/y")
    zk.ensure_path("/create/x/y")
    same(sorted(zk.get_children("/create")), ["a", "b", "e", "s-0000000003", "s-0000000004", "x"])
    raises(kz.NodeExistsError, zk.create, "/create")
    raises(kz.NoNodeError, zk.create, "/no/parent")
    raises(kz.NoChildrenForEphemeralsError, zk.create, "/create/e/child")
    raises(kz.InvalidACLError, zk.create, "/create/acl", acl=[ACL(31, Id("nonsense", "x"))])


@part("get, set, exists, delete: values, stats, versions")
def data(zk):
    zk.create("/data")
    same(zk.exists("/data/nothing"), None)
    raises(kz.NoNodeError, zk.get, "/data/nothing")
    raises(kz.NoNodeError, zk.set, "/data/nothing", b"")
    every = bytes(range(256)) * 16
    s0 = zk.exists("/data")
    s1 = zk.set("/data", every, version=0)
    same((s1.version, s1.czxid, s1.dataLength, s1.mzxid > s0.mzxid), (1, s0.czxid, 4096, True))
    same(zk.get("/data"), (every, s1))
    raises(kz.BadVersionError, zk.set, "/data", b"x", version=0)
    same(zk.set("/data", b"").version, 2)
    same(zk.get("/data")[0], b"")
    big = b"0123456789" * 100000
    zk.set("/data", big)
    same(zk.get("/data")[0] == big, True)
    zk.create("/data/a/b", makepath=True)
    raises(kz.NotEmptyError, zk.delete, "/data")
    raises(kz.BadVersionError, zk.delete, "/data/a/b", version=3)
    raises(kz.NoNodeError, zk.delete, "/data/c")
    zk.delete("/data", recursive=True)
    same(zk.exists("/data"), None)


@part("get_children: names, stat")
def children(zk):
    zk.create("/children")
    same(zk.get_children("/children"), [])
    for name in "b", "a", "\u00fc c":
        zk.create("/children/" + name)
    zk.delete("/children/b")
    names, stat = zk.get_children("/children", include_data=True)
    same((sorted(names), stat.numChildren, stat.cversion), (["a", "\u00fc c"], 2, 4))
    same(stat.pzxid > zk.exists("/children/\u00fc c").czxid, True)
    raises(kz.NoNodeError, zk.get_children, "/children/nothing")
    same(sorted(zk.get_children("/zookeeper")), ["config", "quota"])


@part("the async calls, many at once, in order")
def asynchronous(zk):
    zk.create("/async")
    asked = [zk.create_async("/async/n-", b"%d" % i, sequence=True) for i in range(200)]
    same([a.get(timeout=PATIENCE) for a in asked], ["/async/n-%010d" % i for i in range(200)])
    sets = [zk.set_async("/async", b"%d" % i) for i in range(100)]
    gets = [zk.get_async("/async/n-%010d" % i) for i in range(200)]
    same([a.get(timeout=PATIENCE).version for a in sets], list(range(1, 101)))
    same([a.get(timeout=PATIENCE)[0] for a in gets], [b"%d" % i for i in range(200)])
    raises(kz.NoNodeError, zk.get_async("/async/nothing").get, timeout=PATIENCE)
    same(len(zk.get_children_async("/async").get(timeout=PATIENCE)), 200)
    same(zk.exists_async("/async").get(timeout=PATIENCE).version, 100)
    same(zk.sync_async("/async").get(timeout=PATIENCE), "/async")
    for a in [zk.delete_async("/async/n-%010d" % i) for i in range(200)]:
        a.get(timeout=PATIENCE)
    same(zk.ensure_path_async("/async/x/y").get(timeout=PATIENCE), "/async/x/y")
    same(zk.get_acls_async("/async").get(timeout=PATIENCE)[0], OPEN_ACL_UNSAFE)
    same(zk.set_acls_async("/async", OPEN_ACL_UNSAFE).get(timeout=PATIENCE).aversion, 1)


@part("watches of get, exists, get_children")
def watches(zk):
    zk.create("/watches")
    seen, kids, gone = Calls(), Calls(), Calls()
    same(zk.exists("/watches/a", watch=seen), None)
    zk.get_children("/watches", watch=kids)
    zk.create("/watches/a")
    seen.event(EventType.CREATED, "/watches/a")
    kids.event(EventType.CHILD, "/watches")
    zk.get("/watches/a", watch=seen)
    zk.get_children("/watches/a", watch=gone)
    zk.set_acls("/watches/a", OPEN_ACL_UNSAFE)
    dial().set("/watches/a", b"x")
    seen.event(EventType.CHANGED, "/watches/a")
    zk.set("/watches/a", b"y")
    zk.exists("/watches/a", watch=seen)
    zk.delete("/watches/a")
    seen.event(EventType.DELETED, "/watches/a")
    gone.event(EventType.DELETED, "/watches/a")
    raises(kz.NoNodeError, zk.get, "/watches/nothing", watch=seen)
    zk.create("/watches/nothing")
    zk.sync("/watches")
    same((seen.qsize(), kids.qsize(), gone.qsize()), (0, 0, 0))


@part("chroot")
def chroot(zk):
    zk.create("/chroot")
    inner = KazooClient(hosts=ADDR + "/chroot", timeout=SESSION)
    inner.start(timeout=PATIENCE)
    CLIENTS.append(inner)
    seen = Calls()
    same(inner.exists("/a", watch=seen), None)
    same(inner.create("/a", b"inner"), "/a")
    seen.event(EventType.CREATED, "/a")
    same(zk.get("/chroot/a")[0], b"inner")
    same(inner.get_children("/"), ["a"])


@part("sync")
def sync(zk):
    same(zk.sync("/nothing"), "/nothing")
    other = dial()
    zk.create("/sync")
    for i in range(20):
        zk.set("/sync", b"%d" % i)
        other.sync("/sync")
        same(other.get("/sync")[0], b"%d" % i)


@part("transactions: done, refused whole")
def transactions(zk):
    zk.create("/txn/old", makepath=True)
    t = zk.transaction()
    t.check("/txn", 0)
    t.create("/txn/a", b"a")
    t.create("/txn/a/e-", ephemeral=True, sequence=True)
    t.set_data("/txn/a", b"abc", version=0)
    t.delete("/txn/old", version=0)
    got = t.commit()
    same((got[0], got[1], got[2], got[4]), (True, "/txn/a", "/txn/a/e-0000000000", True))
    same((got[3].version, got[3].dataLength, got[3].numChildren), (1, 3, 1))
    stat = zk.exists("/txn/a")
    same((stat.mzxid, stat.pzxid, zk.exists("/txn").pzxid), (stat.czxid, stat.czxid, stat.czxid))
    same(zk.get_children("/txn"), ["a"])
    with zk.transaction() as t:
        t.create("/txn/with")
    same(zk.exists("/txn/with") is None, False)

    before = zk.exists("/txn")
    t = zk.transaction()
    t.create("/txn/b")
    t.check("/txn", 7)
    t.create("/txn/c")
    same([type(r) for r in t.commit()], [kz.RolledBackError, kz.BadVersionError, kz.RuntimeInconsistency])
    same(zk.exists("/txn"), before)
    for error, op, args in ((kz.NodeExistsError, "create", ("/txn/a",)), (kz.NoNodeError, "delete", ("/txn/b",)),
                            (kz.NotEmptyError, "delete", ("/txn/a",)), (kz.NoNodeError, "set_data", ("/txn/b", b""))):
        t = zk.transaction()
        getattr(t, op)(*args)
        same([type(r) for r in t.commit()], [error])


@part("auth: digest, ACLs, who may not; auth_data; a scheme that there is not")
def auth(zk):
    zk.create("/auth")
    acls, stat = zk.get_acls("/auth")
    same((acls, stat.aversion), (OPEN_ACL_UNSAFE, 0))
    alice = make_digest_acl("alice", "secret", all=True)
    readers = make_acl("world", "anyone", read=True)
    raises(kz.BadVersionError, zk.set_acls, "/auth", [alice], version=3)
    same(zk.set_acls("/auth", [alice, readers], version=0).aversion, 1)
    raises(kz.NoAuthError, zk.set, "/auth", b"x")
    raises(kz.NoAuthError, zk.create, "/auth/a")
    raises(kz.NoAuthError, zk.set_acls, "/auth", OPEN_ACL_UNSAFE)
    same(zk.get("/auth")[0], b"")
    same(zk.get_acls("/auth")[0], [ACL(31, Id("digest", "alice:x")), readers])

    a = dial(auth_data=[("digest", "alice:secret")])
    same(a.get_acls("/auth")[0], [alice, readers])
    same(a.set("/auth", b"a").version, 1)
    a.create("/auth/mine", b"mine", acl=[make_acl("auth", "", all=True)])
    same(a.get_acls("/auth/mine")[0], [alice])
    for f in zk.get, zk.get_children, zk.get_acls:
        raises(kz.NoAuthError, f, "/auth/mine")
    b = dial()
    same(b.add_auth("digest", "bob:secret"), True)
    raises(kz.NoAuthError, b.get, "/auth/mine")
    same(b.add_auth("digest", "alice:secret"), True)
    same(b.get("/auth/mine")[0], b"mine")
    c = dial(default_acl=[make_digest_acl("carol", "pw", read=True)], auth_data=[("digest", "carol:pw")])
    c.create("/carols")
    raises(kz.NoAuthError, c.set, "/carols", b"")
    same(c.get("/carols")[0], b"")
    bad = dial()
    raises(kz.AuthFailedError, bad.add_auth, "nonsense", "x:y")
    raises(kz.AuthFailedError, bad.get, "/")


# The recipes.

@part("Lock: one at a time, in order; timeout, cancel, contenders")
def lock(zk):
    first = zk.Lock("/lock", "first")
    same(first.acquire(timeout=PATIENCE), True)
    same(first.is_acquired, True)
    second = dial().Lock("/lock", "second")
    same(second.acquire(blocking=False), False)
    raises(kz.LockTimeout, second.acquire, timeout=0.2)
    order, threads = Calls(), []
    for i in range(4):
        l = dial().Lock("/lock", "w%d" % i)

        def work(l=l, i=i):
            with l:
                order(i)
                same(l.contenders()[0], "w%d" % i)
        threads.append(Thread(work))
        within("one more waits", lambda: first.contenders() == ["first"] + ["w%d" % j for j in range(i + 1)])
    same(order.qsize(), 0)
    same(first.release(), True)
    for t in threads:
        t.end()
    same([order.next() for _ in threads], [0, 1, 2, 3])
    same(zk.get_children("/lock"), [])

    first.acquire()
    waiter = Thread(second.acquire)
    within("the second waits", lambda: len(first.contenders()) == 2)
    second.cancel()
    raises(kz.CancelledError, waiter.end)
    first.release()


@part("ReadLock, WriteLock")
def read_write(zk):
    other = dial()
    r1, r2, w = zk.ReadLock("/rw", "r1"), other.ReadLock("/rw", "r2"), other.WriteLock("/rw", "w")
    same((r1.acquire(timeout=PATIENCE), r2.acquire(timeout=PATIENCE), w.acquire(blocking=False)), (True, True, False))
    r1.release()
    waiter = Thread(w.acquire)
    within("the writer waits", lambda: len(w.contenders() or []) == 2)
    same(w.is_acquired, False)
    r2.release()
    same(waiter.end(), True)
    same(r1.acquire(blocking=False), False)
    w.release()
    same(r1.acquire(timeout=PATIENCE), True)
    r1.release()


@part("Semaphore: leases, holders, waiting")
def semaphore(zk):
    sems = [dial().Semaphore("/sem", "s%d" % i, max_leases=2) for i in range(3)]
    same([s.acquire(blocking=False) for s in sems], [True, True, False])
    same(sorted(sems[2].lease_holders()), ["s0", "s1"])
    waiter = Thread(sems[2].acquire, timeout=PATIENCE)
    time.sleep(0.05)
    same(sems[2].is_acquired, False)
    sems[0].release()
    same(waiter.end(), True)
    same(sorted(sems[0].lease_holders()), ["s1", "s2"])
    raises(ValueError, dial().Semaphore("/sem", max_leases=3).acquire)
    for s in sems[1:]:
        s.release()
    same(zk.get("/sem")[0], b"2")


@part("Election: one leads, then the next; cancel")
def election(zk):
    leads, go = Calls(), [threading.Event() for _ in range(3)]
    elections, threads = [], []
    for i in range(3):
        e = dial().Election("/election", "c%d" % i)

        def lead(i=i):
            leads(i)
            go[i].wait(PATIENCE)
        elections.append(e)
        threads.append(Thread(e.run, lead))
        within("one more", lambda: len(e.contenders()) == i + 1)
    same(elections[0].contenders(), ["c0", "c1", "c2"])
    same(leads.next(), 0)
    elections[1].cancel()
    threads[1].end()
    same(leads.qsize(), 0)
    go[0].set()
    same(leads.next(), 2)
    go[2].set()
    threads[0].end()
    threads[2].end()


@part("Barrier")
def barrier(zk):
    b, other = zk.Barrier("/barrier"), dial().Barrier("/barrier")
    same(other.wait(0.1), True)
    b.create()
    same(other.wait(0.1), False)
    waiter = Thread(other.wait, PATIENCE)
    same(waiter.is_alive(), True)
    same(b.remove(), True)
    same(waiter.end(), True)
    same(b.remove(), False)


@part("DoubleBarrier: all enter, all leave")
def double_barrier(zk):
    bars = [dial().DoubleBarrier("/double", 3, "d%d" % i) for i in range(3)]
    threads = [Thread(b.enter) for b in bars[:2]]
    within("two are there", lambda: zk.exists("/double") is not None and len(zk.get_children("/double")) == 2)
    same([t.is_alive() for t in threads], [True, True])
    threads.append(Thread(bars[2].enter))
    for t in threads:
        t.end()
    same([b.participating for b in bars], [True] * 3)
    same("ready" in zk.get_children("/double"), True)
    leaving = [Thread(b.leave) for b in bars[:2]]
    within("who may has gone", lambda: len(zk.get_children("/double")) <= 2)
    same([t.is_alive() for t in leaving], [True, True])
    leaving.append(Thread(bars[2].leave))
    for t in leaving:
        t.end()
    same([b.participating for b in bars], [False] * 3)


@part("Queue: order, priority")
def queues(zk):
    q = zk.Queue("/queue")
    same(q.get(), None)
    for value, priority in ((b"b", 100), (b"c", 100), (b"a", 50), (b"d", 200)):
        q.put(value, priority)
    same(len(q), 4)
    same([dial().Queue("/queue").get()] + [q.get() for _ in range(4)], [b"a", b"b", b"c", b"d", None])


@part("LockingQueue: taken once; released, taken again")
def locking_queue(zk):
    q, other = zk.LockingQueue("/lq"), dial().LockingQueue("/lq")
    same(q.get(timeout=0), None)
    q.put(b"one", 10)
    q.put_all([b"two", b"three"], 20)
    same((len(q), q.get(PATIENCE), other.get(PATIENCE)), (3, b"one", b"two"))
    same((q.holds_lock(), q.consume(), q.consume()), (True, True, False))
    same(other.release(), True)
    same((q.get(PATIENCE), q.consume()), (b"two", True))
    same((q.get(PATIENCE), q.consume()), (b"three", True))
    waiter = Thread(other.get, PATIENCE)
    q.put(b"late")
    same((waiter.end(), other.consume(), len(q)), (b"late", True, 0))


@part("Counter: int, float, many at once")
def counter(zk):
    def add(c):
        for _ in range(20):
            c += 1
    counters = [dial().Counter("/counter") for _ in range(3)]
    for t in [Thread(add, c) for c in counters]:
        t.end()
    c = zk.Counter("/counter")
    same(c.value, 60)
    c -= 8
    same((c.value, c.pre_value, c.post_value, zk.get("/counter")[0]), (52, 60, 52, b"52"))
    f = zk.Counter("/counter-f", default=1.5)
    f += 2.0
    same((f.value, zk.get("/counter-f")[0]), (3.5, b"3.5"))
    k = zk.Counter("/counter-k", support_curator=True)
    k += 258
    same((k.value, zk.get("/counter-k")[0]), (258, b"\x00\x00\x01\x02"))


@part("Party, ShallowParty")
def party(zk):
    for name, path in (("Party", "/party"), ("ShallowParty", "/shallow")):
        a, other = getattr(zk, name)(path, "a"), dial()
        b = getattr(other, name)(path, "b")
        a.join()
        b.join()
        same((sorted(a), len(b), a.participating), (["a", "b"], 2, True))
        b.leave()
        same(list(a), ["a"])
        b.join()
        other.stop() # without leaving: only its session ends
        same(list(a), ["a"])
        a.leave()
        same(len(a), 0)


@part("Lease, MultiLease")
def leases(zk):
    import datetime
    hour = datetime.timedelta(hours=1)
    same(bool(zk.NonBlockingLease("/lease", hour, identifier="a")), True)
    same(bool(zk.NonBlockingLease("/lease", hour, identifier="b")), False)
    same(bool(zk.NonBlockingLease("/lease", hour, identifier="a")), True)
    same([bool(zk.MultiNonBlockingLease(2, "/leases", hour, identifier=i)) for i in "abc"], [True, True, False])


@part("SetPartitioner")
def partitioner(zk):
    clients = [dial(), dial()]
    parts = [SetPartitioner(c, "/partition", set=(1, 2, 3, 4), identifier="p%d" % i, time_boundary=0.3) for i, c in enumerate(clients)]

    def settle():
        for p in parts:
            if p.release:
                p.release_set()
            elif p.allocating:
                p.wait_for_acquire(0.1)
        return all(p.acquired for p in parts) and sorted(x for p in parts for x in p) == [1, 2, 3, 4]
    within("the parts are given out", settle)
    same([len(list(p)) for p in parts], [2, 2])
    for p in parts:
        p.finish()


@part("DataWatch")
def data_watch(zk):
    seen, events = Calls(), Calls()

    @zk.DataWatch("/data-watch")
    def watch(value, stat, event):
        seen((value, stat and stat.version))
        events(event and event.type)
        return value != b"enough"
    same(seen.next(), (None, None))
    for f, want in ((lambda: zk.create("/data-watch", b"0"), (b"0", 0)), (lambda: zk.set("/data-watch", b"1"), (b"1", 1)),
                    (lambda: zk.delete("/data-watch"), (None, None)), (lambda: zk.create("/data-watch", b"new"), (b"new", 0)),
                    (lambda: zk.set("/data-watch", b"enough"), (b"enough", 1))):
        f()
        same(seen.next(), want)
    zk.set("/data-watch", b"unseen")
    zk.sync("/")
    same(seen.qsize(), 0)
    same([events.next() for _ in range(6)], [None, "CREATED", "CHANGED", "DELETED", "CREATED", "CHANGED"])


@part("ChildrenWatch, PatientChildrenWatch")
def children_watch(zk):
    seen = Calls()
    zk.create("/children-watch")

    @zk.ChildrenWatch("/children-watch")
    def watch(names):
        seen(sorted(names))
    same(seen.next(), [])
    other = dial()
    for f, want in ((lambda: other.create("/children-watch/a"), ["a"]), (lambda: zk.create("/children-watch/b"), ["a", "b"]),
                    (lambda: other.delete("/children-watch/a"), ["b"])):
        f()
        same(seen.next(), want)
    patient = PatientChildrenWatch(zk, "/children-watch", time_boundary=0.1)
    names, changed = patient.start().get(timeout=PATIENCE)
    same(names, ["b"])
    zk.create("/children-watch/c")
    changed.get(timeout=PATIENCE)


@part("TreeCache")
def tree_cache(zk):
    zk.create("/tree/a/b", b"b", makepath=True)
    events, faults = Calls(), []
    cache = TreeCache(zk, "/tree")
    cache.listen(lambda e: events((e.event_type, e.event_data and e.event_data.path)))
    cache.listen_fault(faults.append)
    cache.start()
    same([events.next() for _ in range(4)], [(TreeEvent.NODE_ADDED, "/tree"), (TreeEvent.NODE_ADDED, "/tree/a"),
                                             (TreeEvent.NODE_ADDED, "/tree/a/b"), (TreeEvent.INITIALIZED, None)])
    same((cache.get_data("/tree/a/b").data, cache.get_children("/tree/a")), (b"b", {"b"}))
    other = dial()
    other.set("/tree/a/b", b"new")
    same(events.next(), (TreeEvent.NODE_UPDATED, "/tree/a/b"))
    same((cache.get_data("/tree/a/b").data, cache.get_data("/tree/a/b").stat.version), (b"new", 1))
    other.create("/tree/c")
    same(events.next(), (TreeEvent.NODE_ADDED, "/tree/c"))
    other.delete("/tree/c")
    same(events.next(), (TreeEvent.NODE_REMOVED, "/tree/c"))
    same((cache.get_data("/tree/c"), cache.get_children("/tree")), (None, {"a"}))
    cache.close()
    same(faults, [])


@part("restart: SUSPENDED, CONNECTED; session, ephemerals, recipes")
def restart(zk):
    states, values, names = Calls(), Calls(), Calls()
    zk.add_listener(states)
    session, password = zk.client_id
    zk.create("/restart", b"0")
    zk.create("/restart/mine", b"e", ephemeral=True)
    zk.DataWatch("/restart", lambda value, stat: values(value))
    zk.ChildrenWatch("/restart", lambda children: names(sorted(children)))
    same((values.next(), names.next()), (b"0", ["mine"]))
    mine = zk.exists("/restart/mine")
    held = zk.Lock("/restart-lock", "held")
    held.acquire(timeout=PATIENCE)
    print("RESTART", flush=True)
    sys.stdin.readline()
    same((states.next(), states.next(SESSION)), (KazooState.SUSPENDED, KazooState.CONNECTED))
    same(zk.client_id, (session, password))
    same(zk.exists("/restart/mine"), mine)
    other = dial()
    same(other.Lock("/restart-lock").acquire(blocking=False), False)
    same(held.contenders(), ["held"])
    # The watches read again what they watch, and continue.
    other.set("/restart", b"1")
    values.until(b"1")
    other.create("/restart/new")
    names.until(["mine", "new"])
    zk.remove_listener(states)
    held.release()


@part("stop: the ephemerals go; start again: a new session")
def stop(zk):
    other, gone, states = dial(), Calls(), Calls()
    zk.add_listener(states)
    session = zk.client_id[0]
    zk.create("/stop", b"e", ephemeral=True)
    other.get("/stop", watch=gone)
    zk.stop()
    gone.event(EventType.DELETED, "/stop")
    same(states.next(), KazooState.LOST)
    same(other.exists("/stop"), None)
    zk.start(timeout=PATIENCE)
    same(states.next(), KazooState.CONNECTED)
    same(zk.client_id[0] not in (0, session), True)
    zk.restart()
    same(zk.exists("/") is None, False)


def main():
    failed = False
    zk = dial()
    for name, f in PARTS:
        try:
            f(zk)
        except Exception:
            failed = True
            print("FAIL %s: %s" % (name, traceback.format_exc()))
        else:
            print("ok " + name)
        sys.stdout.flush()
        while len(CLIENTS) > 1: # the clients of the part
            c = CLIENTS.pop()
            c.stop()
            c.close()
    zk.stop()
    sys.exit(failed)


main()
