import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.BackgroundCallback;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicValue;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/**
 * Tests Curator's framework, recipes and service discovery, and ZooKeeper's own
 * Java client below them.
 *
 * <pre>java Recipes HOST:PORT</pre>
 *
 * prints "ok ..." for each thing tested, or "FAIL ..." and the reason, and ends with
 * 0 if everything was right. After the line RESTART the caller must restart the
 * server with its data, and then send a line.
 */
public class Recipes {
    static final int PATIENCE = 60; // seconds: the longest wait for something that must happen
    static final int SESSION = 30; // longer than a restart of the server takes on a busy machine

    static String addr;
    static CuratorFramework client;
    static final List<CuratorFramework> others = new ArrayList<>();
    static final ExecutorService threads = Executors.newCachedThreadPool(r -> {
        Thread t = new Thread(r);
        t.setDaemon(true);
        return t;
    });

    interface Part {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static boolean failed;

    static void part(String name, Part p) {
        try {
            p.run();
            System.out.println("ok " + name);
        } catch (Throwable e) {
            failed = true;
            String where = Arrays.stream(e.getStackTrace()).filter(f -> f.getFileName() != null && f.getFileName().equals("Recipes.java"))
                .map(f -> "line " + f.getLineNumber()).collect(Collectors.joining(", "));
            System.out.println("FAIL " + name + ": " + e + " at " + where);
        }
        others.parallelStream().forEach(CuratorFramework::close);
        others.clear();
    }

    static void same(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    static void refused(KeeperException.Code want, Part p) throws Exception {
        try {
            p.run();
        } catch (KeeperException e) {
            same(e.code(), want);
            return;
        }
        throw new AssertionError("done, want " + want);
    }

    static void within(String what, Condition c) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE);
        while (!c.holds()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError(what + ": not in " + PATIENCE + " s");
            }
            Thread.sleep(2);
        }
    }

    static <T> T next(BlockingQueue<T> q) throws Exception {
        T v = q.poll(PATIENCE, TimeUnit.SECONDS);
        if (v == null) {
            throw new AssertionError("nothing in " + PATIENCE + " s");
        }
        return v;
    }

    static <T> T end(Future<T> f) throws Exception {
        return f.get(PATIENCE, TimeUnit.SECONDS);
    }

    static <T> Future<T> start(Callable<T> c) {
        return threads.submit(c);
    }

    static CuratorFramework dial() throws Exception {
        CuratorFramework c = newClient(CuratorFrameworkFactory.builder());
        others.add(c);
        return c;
    }

    static CuratorFramework newClient(CuratorFrameworkFactory.Builder b) throws Exception {
        CuratorFramework c = b.connectString(addr).sessionTimeoutMs(SESSION * 1000).connectionTimeoutMs(20_000).retryPolicy(new RetryOneTime(100)).build();
        c.start();
        same(c.blockUntilConnected(PATIENCE, TimeUnit.SECONDS), true);
        return c;
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] b) {
        return new String(b, StandardCharsets.UTF_8);
    }

    static String get(String path) throws Exception {
        return text(client.getData().forPath(path));
    }

    static List<String> children(String path) throws Exception {
        return client.getChildren().forPath(path).stream().sorted().collect(Collectors.toList());
    }

    static long session() throws Exception {
        return client.getZookeeperClient().getZooKeeper().getSessionId();
    }

    static String event(WatchedEvent e) {
        return e.getType() + " " + e.getPath();
    }

    public static void main(String[] args) throws Exception {
        addr = args[0];
        client = newClient(CuratorFrameworkFactory.builder());
        part("framework: create, get, set, delete, stat", Recipes::framework);
        part("framework: background calls", Recipes::background);
        part("framework: watches", Recipes::watches);
        part("framework: ACLs and auth", Recipes::auth);
        part("framework: namespace", Recipes::namespace);
        part("transactions", Recipes::transactions);
        part("ZooKeeper's class: multi, reads, watches, whoami", Recipes::raw);
        part("InterProcessMutex: in order, again, timeout, revoke", Recipes::mutex);
        part("InterProcessSemaphoreMutex, InterProcessMultiLock", Recipes::moreLocks);
        part("InterProcessReadWriteLock", Recipes::readWrite);
        part("InterProcessSemaphoreV2", Recipes::semaphore);
        part("LeaderLatch", Recipes::leaderLatch);
        part("LeaderSelector", Recipes::leaderSelector);
        part("CuratorCache", Recipes::curatorCache);
        part("PathChildrenCache, NodeCache, TreeCache", Recipes::oldCaches);
        part("PersistentWatcher", Recipes::persistentWatcher);
        part("DistributedBarrier, DistributedDoubleBarrier", Recipes::barriers);
        part("SharedCount, SharedValue", Recipes::shared);
        part("DistributedAtomicLong, DistributedAtomicValue", Recipes::atomic);
        part("PersistentNode, PersistentTtlNode, GroupMember", Recipes::nodes);
        part("DistributedQueue, SimpleDistributedQueue", Recipes::queues);
        part("service discovery", Recipes::discovery);
        part("restart: SUSPENDED, RECONNECTED; session, ephemerals, recipes", Recipes::restart);
        part("close: the ephemerals go", Recipes::close);
        System.out.flush();
        System.exit(failed ? 1 : 0); // whatever a failed part has left behind
    }

    static void framework() throws Exception {
        same(client.create().forPath("/fw", bytes("value")), "/fw");
        same(get("/fw"), "value");
        Stat stat = new Stat();
        same(client.create().storingStatIn(stat).forPath("/fw/a", bytes("abc")), "/fw/a");
        same(List.of(stat.getVersion(), stat.getCversion(), stat.getDataLength(), stat.getNumChildren()), List.of(0, 0, 3, 0));
        same(stat.getCzxid() > 0 && stat.getCzxid() == stat.getMzxid() && stat.getCzxid() == stat.getPzxid() && stat.getCtime() == stat.getMtime(), true);
        same(client.checkExists().forPath("/fw/a"), stat);
        same(client.checkExists().forPath("/fw/nothing"), null);
        same(client.create().creatingParentsIfNeeded().forPath("/fw/b/c/d", bytes("")), "/fw/b/c/d");
        same(client.create().creatingParentContainersIfNeeded().forPath("/fw/k/c"), "/fw/k/c");
        same(client.create().withMode(CreateMode.CONTAINER).forPath("/fw/container"), "/fw/container");
        same(client.create().withTtl(100_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/fw/ttl"), "/fw/ttl");
        same(client.create().withMode(CreateMode.EPHEMERAL).forPath("/fw/e"), "/fw/e");
        same(client.checkExists().forPath("/fw/e").getEphemeralOwner(), session());
        same(client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/fw/s-"), "/fw/s-0000000006");
        String hidden = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/fw/p-");
        same(hidden.startsWith("/fw/_c_") && hidden.endsWith("-p-0000000007"), true);
        same(client.create().orSetData().forPath("/fw/a", bytes("set")), "/fw/a");
        same(get("/fw/a"), "set");
        for (int i = 0; i < 2; i++) {
            same(client.create().idempotent().forPath("/fw/once", bytes("once")), "/fw/once");
        }
        refused(KeeperException.Code.NODEEXISTS, () -> client.create().forPath("/fw/a"));
        refused(KeeperException.Code.NONODE, () -> client.create().forPath("/nothing/a"));
        refused(KeeperException.Code.NOCHILDRENFOREPHEMERALS, () -> client.create().forPath("/fw/e/a"));

        Stat set = client.setData().withVersion(1).forPath("/fw/a", bytes("newer"));
        same(List.of(set.getVersion(), set.getDataLength()), List.of(2, 5));
        refused(KeeperException.Code.BADVERSION, () -> client.setData().withVersion(0).forPath("/fw/a", bytes("x")));
        refused(KeeperException.Code.NONODE, () -> client.setData().forPath("/fw/nothing", bytes("x")));
        same(text(client.getData().storingStatIn(stat).forPath("/fw/a")), "newer");
        same(stat, set);
        byte[] large = new byte[1_000_000];
        Arrays.fill(large, (byte) 'x');
        client.setData().forPath("/fw/a", large);
        same(Arrays.equals(client.getData().forPath("/fw/a"), large), true);

        same(children("/fw/b"), List.of("c"));
        client.getChildren().storingStatIn(stat).forPath("/fw/b");
        same(List.of(stat.getNumChildren(), stat.getCversion()), List.of(1, 1));
        refused(KeeperException.Code.NOTEMPTY, () -> client.delete().forPath("/fw/b"));
        refused(KeeperException.Code.BADVERSION, () -> client.delete().withVersion(7).forPath("/fw/e"));
        refused(KeeperException.Code.NONODE, () -> client.delete().forPath("/fw/nothing"));
        client.delete().quietly().forPath("/fw/nothing");
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath("/fw/b");
        same(client.checkExists().forPath("/fw/b"), null);
        client.sync().forPath("/fw");
        refused(KeeperException.Code.RECONFIGDISABLED, () -> client.reconfig().joining("server.9=127.0.0.1:1:2;3").forEnsemble());
        String config = new String(client.getConfig().forEnsemble());
        same(config.isEmpty() || config.startsWith("server."), true); // in an ensemble: the list of servers
    }

    static void background() throws Exception {
        BlockingQueue<String> done = new LinkedBlockingQueue<>();
        BackgroundCallback callback = (c, e) -> done.add(e.getType() + " " + e.getPath() + " " + e.getResultCode()
            + (e.getChildren() == null ? "" : " " + e.getChildren()) + (e.getData() == null ? "" : " " + text(e.getData())));
        client.create().inBackground(callback).forPath("/bg", bytes("1"));
        client.getData().inBackground(callback).forPath("/bg");
        client.setData().inBackground(callback).forPath("/bg", bytes("2"));
        client.create().inBackground(callback).forPath("/bg/a");
        client.getChildren().inBackground(callback).forPath("/bg");
        client.checkExists().inBackground(callback).forPath("/bg/nothing");
        client.sync().inBackground(callback).forPath("/bg");
        client.delete().inBackground(callback).forPath("/bg/a");
        client.getData().inBackground(callback).forPath("/bg/a");
        for (String want : List.of("CREATE /bg 0", "GET_DATA /bg 0 1", "SET_DATA /bg 0", "CREATE /bg/a 0", "CHILDREN /bg 0 [a]", "EXISTS /bg/nothing -101",
            "SYNC /bg 0", "DELETE /bg/a 0", "GET_DATA /bg/a -101")) {
            same(next(done), want);
        }
    }

    static void watches() throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        Watcher watcher = e -> seen.add(event(e));
        client.create().forPath("/watch");
        same(client.checkExists().usingWatcher(watcher).forPath("/watch/a"), null);
        client.create().forPath("/watch/a");
        same(next(seen), "NodeCreated /watch/a");
        client.getData().usingWatcher(watcher).forPath("/watch/a");
        client.setACL().withACL(Ids.OPEN_ACL_UNSAFE).forPath("/watch/a");
        dial().setData().forPath("/watch/a", bytes("x"));
        same(next(seen), "NodeDataChanged /watch/a");
        client.setData().forPath("/watch/a", bytes("y"));
        client.getChildren().usingWatcher(watcher).forPath("/watch");
        client.delete().forPath("/watch/a");
        same(next(seen), "NodeChildrenChanged /watch");

        client.watchers().add().withMode(AddWatchMode.PERSISTENT).usingWatcher(watcher).forPath("/watch");
        client.create().forPath("/watch/b");
        same(next(seen), "NodeChildrenChanged /watch");
        client.setData().forPath("/watch/b", bytes("x"));
        client.setData().forPath("/watch", bytes("x"));
        same(next(seen), "NodeDataChanged /watch");
        client.watchers().remove(watcher).forPath("/watch");
        same(next(seen), "PersistentWatchRemoved /watch");
        client.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE).usingWatcher(watcher).forPath("/watch");
        client.create().forPath("/watch/b/c");
        same(next(seen), "NodeCreated /watch/b/c");
        client.setData().forPath("/watch/b/c", bytes("x"));
        same(next(seen), "NodeDataChanged /watch/b/c");
        client.delete().forPath("/watch/b/c");
        same(next(seen), "NodeDeleted /watch/b/c");
        client.watchers().removeAll().forPath("/watch");
        same(next(seen), "PersistentWatchRemoved /watch");
        client.setData().forPath("/watch", bytes("y"));
        refused(KeeperException.Code.NOWATCHER, () -> client.watchers().removeAll().forPath("/watch"));
        client.sync().forPath("/watch");
        same(seen.size(), 0);
    }

    static void auth() throws Exception {
        same(client.getACL().forPath("/fw"), Ids.OPEN_ACL_UNSAFE);
        ACL alice = new ACL(Perms.ALL, new Id("digest", DigestAuthenticationProvider.generateDigest("alice:secret")));
        ACL readers = new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE);
        client.create().withACL(List.of(alice, readers)).forPath("/auth", bytes("a"));
        same(get("/auth"), "a");
        refused(KeeperException.Code.NOAUTH, () -> client.setData().forPath("/auth", bytes("b")));
        refused(KeeperException.Code.NOAUTH, () -> client.create().forPath("/auth/a"));
        refused(KeeperException.Code.NOAUTH, () -> client.setACL().withACL(Ids.OPEN_ACL_UNSAFE).forPath("/auth"));
        same(client.getACL().forPath("/auth"), List.of(new ACL(Perms.ALL, new Id("digest", "alice:x")), readers));
        refused(KeeperException.Code.INVALIDACL, () -> client.create().withACL(List.of(new ACL(Perms.ALL, new Id("nonsense", "x")))).forPath("/auth2"));
        refused(KeeperException.Code.INVALIDACL, () -> client.create().withACL(Ids.CREATOR_ALL_ACL).forPath("/auth2"));
        CuratorFramework a = newClient(CuratorFrameworkFactory.builder().authorization("digest", bytes("alice:secret")));
        others.add(a);
        same(a.getACL().forPath("/auth"), List.of(alice, readers));
        same(a.setData().forPath("/auth", bytes("b")).getVersion(), 1);
        a.create().withACL(Ids.CREATOR_ALL_ACL).forPath("/auth/mine", bytes("m"));
        same(a.getACL().forPath("/auth/mine"), List.of(alice));
        refused(KeeperException.Code.NOAUTH, () -> get("/auth/mine"));
        same(a.setACL().withVersion(0).withACL(List.of(readers)).forPath("/auth/mine").getAversion(), 1);
        same(get("/auth/mine"), "m");
        same(a.getZookeeperClient().getZooKeeper().whoAmI().stream().map(i -> i.getAuthScheme() + ":" + i.getUser()).sorted().collect(Collectors.toList()),
            List.of("digest:alice", "ip:127.0.0.1"));
    }

    static void namespace() throws Exception {
        CuratorFramework ns = client.usingNamespace("space");
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        ns.checkExists().usingWatcher((Watcher) e -> seen.add(event(e))).forPath("/a");
        same(ns.create().forPath("/a", bytes("in")), "/a");
        same(next(seen), "NodeCreated /a");
        same(get("/space/a"), "in");
        same(ns.getChildren().forPath("/"), List.of("a"));
    }

    static void transactions() throws Exception {
        client.create().creatingParentsIfNeeded().forPath("/txn/old");
        List<CuratorTransactionResult> got = client.transaction().forOperations(
            client.transactionOp().check().withVersion(0).forPath("/txn"),
            client.transactionOp().create().forPath("/txn/a", bytes("a")),
            client.transactionOp().create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/txn/a/e-"),
            client.transactionOp().create().withMode(CreateMode.CONTAINER).forPath("/txn/k"),
            client.transactionOp().create().withTtl(100_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/txn/t"),
            client.transactionOp().setData().withVersion(0).forPath("/txn/a", bytes("abc")),
            client.transactionOp().delete().withVersion(0).forPath("/txn/old"));
        same(got.stream().map(r -> r.getType() + " " + r.getResultPath() + " " + r.getError()).collect(Collectors.toList()),
            List.of("CHECK null 0", "CREATE /txn/a 0", "CREATE /txn/a/e-0000000000 0", "CREATE null 0", "CREATE null 0", "SET_DATA null 0", "DELETE null 0"));
        Stat set = got.get(5).getResultStat();
        same(List.of(set.getVersion(), set.getDataLength(), set.getNumChildren()), List.of(1, 3, 1));
        same(client.checkExists().forPath("/txn/a"), set);
        same(set.getCzxid() == set.getMzxid() && set.getPzxid() == client.checkExists().forPath("/txn").getPzxid(), true);
        same(children("/txn"), List.of("a", "k", "t"));

        Stat before = client.checkExists().forPath("/txn");
        KeeperException refused = null;
        try {
            client.transaction().forOperations(
                client.transactionOp().create().forPath("/txn/b"),
                client.transactionOp().delete().forPath("/txn/a"),
                client.transactionOp().create().forPath("/txn/c"));
        } catch (KeeperException e) {
            refused = e;
        }
        same(refused == null ? null : refused.code(), KeeperException.Code.NOTEMPTY);
        same(refused.getResults().stream().map(r -> ((OpResult.ErrorResult) r).getErr()).collect(Collectors.toList()), List.of(0, -111, -2));
        same(client.checkExists().forPath("/txn"), before);
        refused(KeeperException.Code.BADVERSION, () -> client.transaction().forOperations(client.transactionOp().check().withVersion(5).forPath("/txn")));
    }

    static void raw() throws Exception {
        ZooKeeper zk = client.getZookeeperClient().getZooKeeper();
        same(zk.create("/raw", bytes("r"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/raw");
        same(zk.create("/raw/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/raw/a");
        same(zk.getData("/raw/a", false, null), null); // null is not empty
        same(zk.create("/raw/b", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL), "/raw/b");
        same(zk.getData("/raw/b", false, null).length, 0);
        List<OpResult> got = zk.multi(List.of(Op.getChildren("/raw"), Op.getData("/raw"), Op.getData("/raw/nothing")));
        same(((OpResult.GetChildrenResult) got.get(0)).getChildren().stream().sorted().collect(Collectors.toList()), List.of("a", "b"));
        same(text(((OpResult.GetDataResult) got.get(1)).getData()), "r");
        same(((OpResult.GetDataResult) got.get(1)).getStat(), zk.exists("/raw", false));
        same(((OpResult.ErrorResult) got.get(2)).getErr(), -101);
        same(zk.multi(List.of()).size(), 0);
        same(zk.getEphemerals("/raw"), List.of("/raw/b"));
        same(zk.getEphemerals().contains("/raw/b"), true);
        same(zk.getAllChildrenNumber("/raw"), 2);
        same(zk.whoAmI().stream().map(i -> i.getAuthScheme() + ":" + i.getUser()).collect(Collectors.toList()), List.of("ip:127.0.0.1"));

        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        Watcher data = e -> seen.add("data " + event(e)), child = e -> seen.add("child " + event(e));
        zk.getData("/raw", data, null);
        zk.getChildren("/raw", child);
        zk.removeWatches("/raw", data, Watcher.WatcherType.Data, false);
        same(next(seen), "data DataWatchRemoved /raw");
        zk.create("/raw/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        same(next(seen), "child NodeChildrenChanged /raw");
        refused(KeeperException.Code.NOWATCHER, () -> zk.removeAllWatches("/raw", Watcher.WatcherType.Children, false));
        refused(KeeperException.Code.NOWATCHER, () -> zk.removeAllWatches("/raw", Watcher.WatcherType.Any, false));
        // The events of a transaction come in its order, before its reply.
        zk.addWatch("/raw", data, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.multi(List.of(Op.create("/raw/d", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), Op.setData("/raw/d", bytes("d"), 0),
            Op.delete("/raw/c", 0), Op.delete("/raw/d", 1)));
        for (String want : List.of("NodeCreated /raw/d", "NodeDataChanged /raw/d", "NodeDeleted /raw/c", "NodeDeleted /raw/d")) {
            same(next(seen), "data " + want);
        }
        zk.removeWatches("/raw", data, Watcher.WatcherType.Any, false);
        same(next(seen), "data PersistentWatchRemoved /raw");
        same(seen.size(), 0);
        refused(KeeperException.Code.BADARGUMENTS, () -> zk.delete("/zookeeper", -1));
        refused(KeeperException.Code.NOAUTH, () -> zk.setData("/zookeeper/config", null, -1));
    }

    static void mutex() throws Exception {
        InterProcessMutex first = new InterProcessMutex(client, "/mutex");
        first.acquire();
        same(first.acquire(0, TimeUnit.SECONDS), true); // again, by the same thread
        first.release();
        same(first.isOwnedByCurrentThread(), true);
        same(new InterProcessMutex(dial(), "/mutex").acquire(100, TimeUnit.MILLISECONDS), false);
        BlockingQueue<Integer> order = new LinkedBlockingQueue<>();
        List<Future<Void>> waiting = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            int n = i;
            InterProcessMutex m = new InterProcessMutex(dial(), "/mutex");
            waiting.add(start(() -> {
                same(m.acquire(PATIENCE, TimeUnit.SECONDS), true);
                order.add(n);
                m.release();
                return null;
            }));
            within("one more waits", () -> first.getParticipantNodes().size() == n + 2);
        }
        same(order.size(), 0);
        first.release();
        for (Future<Void> f : waiting) {
            end(f);
        }
        same(new ArrayList<>(order), List.of(0, 1, 2, 3));
        same(children("/mutex"), List.of());

        CountDownLatch revoked = new CountDownLatch(1);
        first.makeRevocable(m -> revoked.countDown());
        first.acquire();
        Revoker.attemptRevoke(dial(), first.getParticipantNodes().iterator().next());
        same(revoked.await(PATIENCE, TimeUnit.SECONDS), true);
        first.release();
    }

    static void moreLocks() throws Exception {
        InterProcessSemaphoreMutex m = new InterProcessSemaphoreMutex(client, "/sm"), m2 = new InterProcessSemaphoreMutex(dial(), "/sm");
        m.acquire();
        same(m2.acquire(100, TimeUnit.MILLISECONDS), false);
        m.release();
        same(m2.acquire(PATIENCE, TimeUnit.SECONDS), true);
        InterProcessMultiLock both = new InterProcessMultiLock(client, List.of("/multi-1", "/sm/locks"));
        InterProcessMutex one = new InterProcessMutex(dial(), "/multi-1");
        one.acquire();
        same(both.acquire(100, TimeUnit.MILLISECONDS), false);
        one.release();
        m2.release();
        same(both.acquire(PATIENCE, TimeUnit.SECONDS), true);
        same(one.acquire(100, TimeUnit.MILLISECONDS), false);
        both.release();
    }

    static void readWrite() throws Exception {
        InterProcessReadWriteLock a = new InterProcessReadWriteLock(client, "/rw"), b = new InterProcessReadWriteLock(dial(), "/rw");
        a.readLock().acquire();
        same(b.readLock().acquire(PATIENCE, TimeUnit.SECONDS), true);
        same(start(() -> new InterProcessReadWriteLock(dial(), "/rw").writeLock().acquire(100, TimeUnit.MILLISECONDS)).get(), false);
        b.readLock().release();
        Future<Boolean> writer = start(() -> b.writeLock().acquire(PATIENCE, TimeUnit.SECONDS));
        within("the writer waits", () -> children("/rw").size() == 2);
        same(writer.isDone(), false);
        a.readLock().release();
        same(end(writer), true);
        same(a.readLock().acquire(100, TimeUnit.MILLISECONDS), false);
    }

    static void semaphore() throws Exception {
        InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(client, "/sem", 2), b = new InterProcessSemaphoreV2(dial(), "/sem", 2);
        Collection<Lease> two = a.acquire(2);
        same(two.size(), 2);
        same(b.acquire(100, TimeUnit.MILLISECONDS), null);
        Future<Lease> third = start(() -> b.acquire());
        within("the third waits", () -> b.getParticipantNodes().size() == 3);
        a.returnLease(two.iterator().next());
        Lease lease = end(third);
        same(client.checkExists().forPath("/sem/leases/" + lease.getNodeName()) != null, true);
        b.returnLease(lease);
        a.returnAll(two);
    }

    static void leaderLatch() throws Exception {
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            LeaderLatch l = new LeaderLatch(dial(), "/latch", "l" + i);
            latches.add(l);
            l.start();
            int n = i + 1;
            within("one more", () -> client.checkExists().forPath("/latch") != null && children("/latch").size() == n);
        }
        for (int i = 0; i < 3; i++) {
            same(latches.get(i).await(PATIENCE, TimeUnit.SECONDS), true);
            int leader = i;
            within("all know", () -> latches.get(2).getLeader().getId().equals("l" + leader));
            same(latches.get(2).getParticipants().size(), 3 - i);
            for (int j = i + 1; j < 3; j++) {
                same(latches.get(j).hasLeadership(), false);
            }
            if (i == 0) {
                others.get(0).close(); // its session ends
            } else {
                latches.get(i).close();
            }
        }
    }

    static void leaderSelector() throws Exception {
        BlockingQueue<Integer> leads = new LinkedBlockingQueue<>();
        List<LeaderSelector> selectors = new ArrayList<>();
        List<CountDownLatch> go = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            int n = i;
            CountDownLatch mine = new CountDownLatch(1);
            go.add(mine);
            LeaderSelector s = new LeaderSelector(dial(), "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework c) throws Exception {
                    leads.add(n);
                    mine.await(PATIENCE, TimeUnit.SECONDS);
                }
            });
            s.setId("s" + i);
            selectors.add(s);
            s.start();
            within("one more", () -> client.checkExists().forPath("/selector") != null && children("/selector").size() == n + 1);
        }
        for (int i = 0; i < 3; i++) {
            same(next(leads), i);
            same(leads.size(), 0);
            same(selectors.get(2).getLeader().getId(), "s" + i);
            go.get(i).countDown();
        }
        selectors.forEach(LeaderSelector::close);
    }

    static void curatorCache() throws Exception {
        client.create().creatingParentsIfNeeded().forPath("/cache/a/b", bytes("b"));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        CuratorCache cache = CuratorCache.build(client, "/cache");
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forCreates(n -> seen.add("+" + n.getPath()))
            .forChanges((o, n) -> seen.add(text(o.getData()) + ">" + text(n.getData()) + n.getPath()))
            .forDeletes(n -> seen.add("-" + n.getPath()))
            .forInitialized(() -> seen.add("initialized")).build());
        cache.start();
        List<String> first = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            first.add(next(seen));
        }
        same(first.stream().limit(3).sorted().collect(Collectors.toList()), List.of("+/cache", "+/cache/a", "+/cache/a/b"));
        same(first.get(3), "initialized");
        CuratorFramework other = dial();
        other.setData().forPath("/cache/a/b", bytes("c"));
        same(next(seen), "b>c/cache/a/b");
        other.create().forPath("/cache/a/d", bytes("d"));
        same(next(seen), "+/cache/a/d");
        other.delete().forPath("/cache/a/b");
        same(next(seen), "-/cache/a/b");
        same(cache.get("/cache/a/b").isPresent(), false);
        same(text(cache.get("/cache/a/d").get().getData()), "d");
        same(cache.stream().count(), 3L);
        cache.close();
    }

    @SuppressWarnings("deprecation")
    static void oldCaches() throws Exception {
        CuratorFramework other = dial();
        client.create().creatingParentsIfNeeded().forPath("/old/a", bytes("a"));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        PathChildrenCache path = new PathChildrenCache(client, "/old", true);
        path.getListenable().addListener((c, e) -> seen.add(e.getType() + (e.getData() == null ? "" : " " + e.getData().getPath())));
        path.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        same(text(path.getCurrentData("/old/a").getData()), "a");
        other.create().forPath("/old/b");
        same(next(seen), "CHILD_ADDED /old/b");
        other.setData().forPath("/old/b", bytes("b"));
        same(next(seen), "CHILD_UPDATED /old/b");
        other.delete().forPath("/old/b");
        same(next(seen), "CHILD_REMOVED /old/b");
        path.close();

        NodeCache node = new NodeCache(client, "/old/n");
        BlockingQueue<String> values = new LinkedBlockingQueue<>();
        node.getListenable().addListener(() -> values.add(node.getCurrentData() == null ? "gone" : text(node.getCurrentData().getData())));
        node.start(true);
        other.create().forPath("/old/n", bytes("1"));
        same(next(values), "1");
        other.setData().forPath("/old/n", bytes("2"));
        same(next(values), "2");
        other.delete().forPath("/old/n");
        same(next(values), "gone");
        node.close();

        TreeCache tree = new TreeCache(client, "/old");
        seen.clear();
        tree.getListenable().addListener((c, e) -> seen.add(e.getType() + (e.getData() == null ? "" : " " + e.getData().getPath())));
        tree.start();
        same(List.of(next(seen), next(seen), next(seen)), List.of("NODE_ADDED /old", "NODE_ADDED /old/a", "INITIALIZED"));
        other.create().forPath("/old/a/c");
        same(next(seen), "NODE_ADDED /old/a/c");
        other.delete().deletingChildrenIfNeeded().forPath("/old/a");
        same(next(seen), "NODE_REMOVED /old/a/c");
        same(next(seen), "NODE_REMOVED /old/a");
        tree.close();
    }

    static void persistentWatcher() throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        PersistentWatcher w = new PersistentWatcher(client, "/pw", true);
        CountDownLatch set = new CountDownLatch(1);
        w.getResetListenable().addListener(set::countDown);
        w.getListenable().addListener(e -> seen.add(event(e)));
        w.start();
        same(set.await(PATIENCE, TimeUnit.SECONDS), true);
        CuratorFramework other = dial();
        other.create().forPath("/pw");
        other.create().forPath("/pw/a");
        other.setData().forPath("/pw/a", bytes("x"));
        other.delete().deletingChildrenIfNeeded().forPath("/pw");
        for (String want : List.of("NodeCreated /pw", "NodeCreated /pw/a", "NodeDataChanged /pw/a", "NodeDeleted /pw/a", "NodeDeleted /pw")) {
            same(next(seen), want);
        }
        w.close();
    }

    static void barriers() throws Exception {
        DistributedBarrier a = new DistributedBarrier(client, "/barrier"), b = new DistributedBarrier(dial(), "/barrier");
        same(b.waitOnBarrier(100, TimeUnit.MILLISECONDS), true);
        a.setBarrier();
        same(b.waitOnBarrier(100, TimeUnit.MILLISECONDS), false);
        Future<Boolean> waiting = start(() -> b.waitOnBarrier(PATIENCE, TimeUnit.SECONDS));
        a.removeBarrier();
        same(end(waiting), true);

        List<DistributedDoubleBarrier> bars = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            bars.add(new DistributedDoubleBarrier(dial(), "/double", 3));
        }
        same(bars.get(0).enter(100, TimeUnit.MILLISECONDS), false);
        bars.get(0).leave(100, TimeUnit.MILLISECONDS);
        bars.set(0, new DistributedDoubleBarrier(dial(), "/double", 3));
        List<Future<Boolean>> in = new ArrayList<>(), out = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            DistributedDoubleBarrier bar = bars.get(i);
            in.add(start(() -> bar.enter(PATIENCE, TimeUnit.SECONDS)));
            int n = i + 1;
            if (n < 3) {
                within("one more", () -> client.checkExists().forPath("/double") != null && children("/double").size() == n);
                same(in.get(0).isDone(), false);
            }
        }
        for (Future<Boolean> f : in) {
            same(end(f), true);
        }
        for (DistributedDoubleBarrier bar : bars) {
            same(out.stream().anyMatch(Future::isDone), false);
            out.add(start(() -> bar.leave(PATIENCE, TimeUnit.SECONDS)));
        }
        for (Future<Boolean> f : out) {
            same(end(f), true);
        }
    }

    static void shared() throws Exception {
        SharedCount a = new SharedCount(client, "/count", 5), b = new SharedCount(dial(), "/count", 9);
        BlockingQueue<Integer> seen = new LinkedBlockingQueue<>();
        b.addListener(new SharedCountListener() {
            @Override
            public void countHasChanged(SharedCountReader r, int n) {
                seen.add(n);
            }

            @Override
            public void stateChanged(CuratorFramework c, ConnectionState s) {
            }
        });
        a.start();
        b.start();
        same(List.of(a.getCount(), b.getCount()), List.of(5, 5));
        a.setCount(258);
        int count = next(seen);
        while (count == 5) { // its client has only now been told that it is connected, and has read the value again
            count = next(seen);
        }
        same(count, 258);
        same(Arrays.toString(client.getData().forPath("/count")), "[0, 0, 1, 2]");
        same(b.trySetCount(b.getVersionedValue(), 7), true);
        within("the other sees it", () -> a.getCount() == 7);
        a.close();
        b.close();
        SharedValue v = new SharedValue(client, "/shared", bytes("seed"));
        v.start();
        same(text(v.getValue()), "seed");
        dial().setData().forPath("/shared", bytes("x"));
        within("it is seen", () -> text(v.getValue()).equals("x"));
        v.close();
    }

    static void atomic() throws Exception {
        List<Future<Integer>> adding = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            DistributedAtomicLong n = new DistributedAtomicLong(dial(), "/atomic", new RetryOneTime(1));
            adding.add(start(() -> {
                int done = 0;
                while (done < 10) {
                    if (n.increment().succeeded()) {
                        done++;
                    }
                }
                return done;
            }));
        }
        for (Future<Integer> f : adding) {
            same(end(f), 10);
        }
        DistributedAtomicLong n = new DistributedAtomicLong(client, "/atomic", new RetryOneTime(1));
        AtomicValue<Long> got = n.subtract(4L);
        same(List.of(got.succeeded(), got.preValue(), got.postValue(), n.get().postValue()), List.of(true, 30L, 26L, 26L));
        DistributedAtomicValue v = new DistributedAtomicValue(client, "/atomic-value", new RetryOneTime(1));
        same(v.initialize(bytes("a")), true);
        same(v.initialize(bytes("b")), false);
        same(v.compareAndSet(bytes("x"), bytes("c")).succeeded(), false);
        same(v.compareAndSet(bytes("a"), bytes("c")).succeeded(), true);
        same(text(v.get().postValue()), "c");
    }

    static void nodes() throws Exception {
        PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, "/nodes/p", bytes("p"));
        node.start();
        same(node.waitForInitialCreate(PATIENCE, TimeUnit.SECONDS), true);
        same(get("/nodes/p"), "p");
        dial().delete().forPath("/nodes/p");
        within("it is made again", () -> client.checkExists().forPath("/nodes/p") != null);
        node.setData(bytes("q"));
        within("it has the new value", () -> get("/nodes/p").equals("q"));
        node.close();
        same(client.checkExists().forPath("/nodes/p"), null);

        PersistentTtlNode ttl = new PersistentTtlNode(client, "/nodes/ttl", 6_000, bytes("t"));
        ttl.start();
        same(ttl.waitForInitialCreate(PATIENCE, TimeUnit.SECONDS), true);
        same(get("/nodes/ttl"), "t");
        within("it is touched", () -> children("/nodes/ttl").equals(List.of("touch")));
        ttl.close();

        CuratorFramework other = dial();
        GroupMember a = new GroupMember(client, "/group", "a", bytes("1")), b = new GroupMember(other, "/group", "b", bytes("2"));
        a.start();
        b.start();
        within("both are there", () -> a.getCurrentMembers().keySet().equals(java.util.Set.of("a", "b")) && text(a.getCurrentMembers().get("b")).equals("2"));
        b.close();
        within("one is there", () -> a.getCurrentMembers().keySet().equals(java.util.Set.of("a")));
        a.close();
    }

    static void queues() throws Exception {
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        QueueSerializer<String> serializer = new QueueSerializer<>() {
            @Override
            public byte[] serialize(String s) {
                return bytes(s);
            }

            @Override
            public String deserialize(byte[] b) {
                return text(b);
            }
        };
        QueueConsumer<String> consumer = new QueueConsumer<>() {
            @Override
            public void consumeMessage(String s) {
                taken.add(s);
            }

            @Override
            public void stateChanged(CuratorFramework c, ConnectionState s) {
            }
        };
        DistributedQueue<String> q = QueueBuilder.builder(client, consumer, serializer, "/queue").lockPath("/queue-locks").buildQueue();
        q.start();
        for (String s : List.of("a", "b", "c")) {
            q.put(s);
        }
        same(List.of(next(taken), next(taken), next(taken)), List.of("a", "b", "c"));
        q.close();
        SimpleDistributedQueue simple = new SimpleDistributedQueue(client, "/simple");
        same(simple.offer(bytes("1")), true);
        simple.offer(bytes("2"));
        same(List.of(text(simple.peek()), text(simple.take()), text(simple.poll())), List.of("1", "1", "2"));
        same(simple.poll(), null);
        Future<byte[]> waiting = start(() -> simple.poll(PATIENCE, TimeUnit.SECONDS));
        new SimpleDistributedQueue(dial(), "/simple").offer(bytes("late"));
        same(text(end(waiting)), "late");
    }

    static void discovery() throws Exception {
        ServiceInstance<String> one = ServiceInstance.<String>builder().name("svc").id("one").address("10.0.0.1").port(1).payload("p").build();
        ServiceInstance<String> two = ServiceInstance.<String>builder().name("svc").id("two").address("10.0.0.2").port(2).payload("q").build();
        CuratorFramework other = dial();
        ServiceDiscovery<String> a = ServiceDiscoveryBuilder.builder(String.class).client(client).basePath("/services").thisInstance(one).build();
        ServiceDiscovery<String> b = ServiceDiscoveryBuilder.builder(String.class).client(other).basePath("/services").thisInstance(two).build();
        a.start();
        same(a.queryForNames().stream().collect(Collectors.toList()), List.of("svc"));
        same(a.queryForInstance("svc", "one"), one);
        ServiceCache<String> cache = a.serviceCacheBuilder().name("svc").build();
        cache.start();
        same(cache.getInstances().stream().map(ServiceInstance::getId).collect(Collectors.toList()), List.of("one"));
        b.start();
        within("the second is seen", () -> cache.getInstances().size() == 2);
        same(a.queryForInstances("svc").stream().map(i -> i.getId() + " " + i.getPayload()).sorted().collect(Collectors.toList()), List.of("one p", "two q"));
        ServiceProvider<String> provider = a.serviceProviderBuilder().serviceName("svc").build();
        provider.start();
        same(provider.getAllInstances().size(), 2);
        other.close(); // its session, and with it the second
        within("it has gone", () -> cache.getInstances().size() == 1 && provider.getAllInstances().size() == 1);
        same(provider.getInstance().getPort(), 1);
        provider.close();
        cache.close();
        a.close();
    }

    static void restart() throws Exception {
        BlockingQueue<ConnectionState> states = new LinkedBlockingQueue<>();
        client.getConnectionStateListenable().addListener((c, s) -> states.add(s));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>(), cached = new LinkedBlockingQueue<>();
        client.create().forPath("/restart", bytes("0"));
        client.create().withMode(CreateMode.EPHEMERAL).forPath("/restart/mine", bytes("e"));
        InterProcessMutex mutex = new InterProcessMutex(client, "/restart-lock");
        mutex.acquire();
        LeaderLatch latch = new LeaderLatch(client, "/restart-latch", "me");
        latch.start();
        same(latch.await(PATIENCE, TimeUnit.SECONDS), true);
        Watcher watcher = e -> {
            if (e.getType() != EventType.None) {
                seen.add(event(e));
            }
        };
        client.getData().usingWatcher(watcher).forPath("/restart");
        client.checkExists().usingWatcher(watcher).forPath("/restart/new");
        client.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE).usingWatcher(watcher).forPath("/restart-deep");
        CuratorCache cache = CuratorCache.build(client, "/restart");
        cache.listenable().addListener(CuratorCacheListener.builder().forCreates(n -> cached.add("+" + n.getPath())).forInitialized(() -> cached.add("initialized")).build());
        cache.start();
        for (String s = ""; !s.equals("initialized"); ) {
            s = next(cached);
        }
        long session = session();
        Stat mine = client.checkExists().forPath("/restart/mine");

        System.out.println("RESTART");
        System.out.flush();
        System.in.read();
        same(List.of(next(states), next(states)), List.of(ConnectionState.SUSPENDED, ConnectionState.RECONNECTED));
        same(session(), session);
        same(client.checkExists().forPath("/restart/mine"), mine);
        same(mutex.isAcquiredInThisProcess(), true);
        same(new InterProcessMutex(dial(), "/restart-lock").acquire(100, TimeUnit.MILLISECONDS), false);
        within("it leads again", latch::hasLeadership);
        same(seen.size(), 0);
        CuratorFramework other = dial();
        other.setData().forPath("/restart", bytes("1"));
        same(next(seen), "NodeDataChanged /restart");
        other.create().forPath("/restart/new");
        same(next(seen), "NodeCreated /restart/new");
        same(next(cached), "+/restart/new");
        other.create().creatingParentsIfNeeded().forPath("/restart-deep/a");
        same(List.of(next(seen), next(seen)), List.of("NodeCreated /restart-deep", "NodeCreated /restart-deep/a"));
        mutex.release();
        latch.close();
        cache.close();
    }

    static void close() throws Exception {
        CuratorFramework other = dial();
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        client.create().withMode(CreateMode.EPHEMERAL).forPath("/close");
        other.sync().forPath("/close"); // in an ensemble its server may not have applied the create yet
        same(other.checkExists().usingWatcher((Watcher) e -> seen.add(event(e))).forPath("/close") != null, true);
        client.close();
        same(next(seen), "NodeDeleted /close");
        same(other.checkExists().forPath("/close"), null);
        same(other.getZookeeperClient().getZooKeeper().getEphemerals(), List.of());
    }
}
