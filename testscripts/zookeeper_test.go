package testscripts

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// zooKeeper is a real one, of Debian's packages, on a port and with data of its
// own.
type zooKeeper struct {
	t     testing.TB
	addr  string
	cfg   string
	cmd   *exec.Cmd
	ended chan struct{}
}

func startZooKeeper(t testing.TB) *zooKeeper {
	t.Helper()
	need(t, "java", "/usr/share/zookeeper/bin/zkServer.sh") // of one package with its jar
	dir := t.TempDir()
	z := &zooKeeper{t: t, addr: freeAddr(t), cfg: filepath.Join(dir, "zoo.cfg")}
	_, port, _ := net.SplitHostPort(z.addr)
	text := "dataDir=" + filepath.Join(dir, "data") + "\nclientPort=" + port + "\nclientPortAddress=127.0.0.1\n" +
		"admin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n" +
		"enforceQuota=true\nextendedTypesEnabled=true\n" // as coord has them unless told otherwise
	if err := os.WriteFile(z.cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	z.start()
	t.Cleanup(z.kill)
	return z
}

// freeAddr is one that a server can have again after a restart: it is not of the
// range that outgoing connections take theirs from, one of which could be a
// client's own, waiting for that server.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port in 100 attempts")
	return ""
}

func (z *zooKeeper) start() {
	z.t.Helper()
	var log strings.Builder
	z.cmd = exec.Command("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/zookeeper.jar", "org.apache.zookeeper.server.ZooKeeperServerMain", z.cfg)
	z.cmd.Dir, z.cmd.Stdout, z.cmd.Stderr = filepath.Dir(z.cfg), &log, &log
	z.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := z.cmd.Start(); err != nil {
		z.t.Fatal(err)
	}
	ended, cmd := make(chan struct{}), z.cmd
	z.ended = ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed, or its output says why
	}()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			z.t.Fatalf("ZooKeeper ended: %s", log.String())
		default:
		}
		if answer, err := tryWord(z.addr, "srvr", time.Second); err == nil && strings.HasPrefix(answer, "Zookeeper version: ") {
			return
		}
	}
	z.t.Fatal("ZooKeeper does not serve after a minute")
}

func (z *zooKeeper) kill() {
	_ = z.cmd.Process.Kill()
	<-z.ended
}

func (z *zooKeeper) restart() {
	z.kill()
	z.start()
}
