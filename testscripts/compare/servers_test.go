package compare_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord/testscripts/compare"
	"coord/testscripts/ports"
	"coord/testscripts/words"
	"coord/testscripts/zookeeper"
)

// common is the configuration of both servers: znodes with a TTL, hard quotas, a
// superuser, and no deletion of old containers and TTL znodes.
var common = []string{
	"extendedTypesEnabled=true", "enforceQuota=true", "znode.container.checkIntervalMs=86400000",
	"DigestAuthenticationProvider.superDigest=" + compare.SuperDigest, "maxClientCnxns=0",
	"tickTime=500", "minSessionTimeout=3000", "maxSessionTimeout=40000",
	"4lw.commands.whitelist=*",
}

// startZooKeeper starts a real ZooKeeper; more are lines of its configuration that
// override the common ones.
func startZooKeeper(t testing.TB, more ...string) (addr string) {
	t.Helper()
	classpath := zookeeper.Classpath(t)
	port := ports.Free(t)
	dir := t.TempDir()
	cfg := filepath.Join(dir, "zoo.cfg")
	lines := append(append([]string{}, common...), "dataDir="+filepath.Join(dir, "data"), "clientPort="+port, "clientPortAddress=127.0.0.1",
		"admin.enableServer=false", "forceSync=no", "snapCount=10000000", "preAllocSize=1024")
	lines = append(lines, more...)
	if err := os.WriteFile(cfg, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	java := []string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	// Some of them are read only from system properties.
	for _, l := range lines {
		key, value, _ := strings.Cut(l, "=")
		switch key {
		case "extendedTypesEnabled", "enforceQuota", "znode.container.checkIntervalMs", "DigestAuthenticationProvider.superDigest", "forceSync", "snapCount", "preAllocSize":
			prefix := "-Dzookeeper."
			if strings.HasPrefix(key, "znode.") {
				prefix = "-D"
			}
			java = append(java, prefix+key+"="+value)
		}
	}
	java = append(java, "-cp", classpath, "org.apache.zookeeper.server.ZooKeeperServerMain", cfg)
	p := exec.Command("java", java...)
	p.Dir = dir
	addr = net.JoinHostPort("127.0.0.1", port)
	start(t, addr, filepath.Join(dir, "log"), p)
	return addr
}

// start runs a server until the test is over, and waits until it serves.
func start(t testing.TB, addr, logFile string, p *exec.Cmd) {
	t.Helper()
	log, err := os.Create(logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Wait() // killed, or its output says why it ended
	}()
	said := func() string {
		b, _ := os.ReadFile(logFile)
		return string(b[max(0, len(b)-4096):])
	}
	over := false
	t.Cleanup(func() {
		select {
		case <-ended:
			if !over {
				t.Errorf("%s ended by itself: %s", p.Path, said())
			}
		default:
		}
		_ = p.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-ended:
			over = true
			t.Fatalf("%s ended: %s", p.Path, said())
		default:
		}
		if !serves(addr) {
			continue
		}
		if k, err := compare.NewControl(addr); err == nil {
			k.Close()
			return
		}
	}
	t.Fatalf("%s does not serve after two minutes: %s", p.Path, said())
}

// serves says whether a server answers srvr. A session would be no good test: a
// ZooKeeper that is starting may not answer until the client gives up.
func serves(addr string) bool {
	answer, err := words.Ask(addr, "srvr", 2*time.Second)
	return err == nil && strings.HasPrefix(answer, "Zookeeper version: ")
}

// startCoord starts coord with the same configuration.
func startCoord(t testing.TB) (addr string) {
	t.Helper()
	dir := t.TempDir()
	cfg := filepath.Join(dir, "zoo.cfg")
	if err := os.WriteFile(cfg, []byte(strings.Join(common, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr = net.JoinHostPort("127.0.0.1", ports.Free(t))
	start(t, addr, filepath.Join(dir, "log"), exec.Command("coord", "server", "--config", cfg, "--listen", addr, "--data-dir", filepath.Join(dir, "data"), "--log-format", "json"))
	return addr
}
